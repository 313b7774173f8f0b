// What is pleasant and not needed: copying, a preview while typing, output that goes on by itself.
"use strict";

for (const button of document.querySelectorAll("[data-copy]")) {
  const field = document.getElementById(button.dataset.copy);
  const text = button.textContent;
  button.hidden = false;
  button.addEventListener("click", async () => {
    field.select();
    try {
      await navigator.clipboard.writeText(field.value);
    } catch {
      document.execCommand("copy"); // without https there is no clipboard object
    }
    button.textContent = button.dataset.done;
    setTimeout(() => { button.textContent = text; }, 2000);
  });
}

async function part(url, id) {
  const answer = await fetch(url, { credentials: "same-origin", cache: "no-store" });
  if (!answer.ok) throw new Error(String(answer.status));
  return new DOMParser().parseFromString(await answer.text(), "text/html").getElementById(id);
}

const form = document.querySelector("[data-preview]");
if (form) {
  for (const button of form.querySelectorAll(".no-script")) button.hidden = true;
  const fields = form.elements;
  let timer = 0;
  const show = () => {
    if (!fields.kind) return;
    for (const row of form.querySelectorAll("[data-kind]")) row.hidden = row.dataset.kind !== fields.kind.value;
    clearTimeout(timer);
    timer = setTimeout(async () => {
      const url = new URL(form.dataset.preview, location.href);
      for (const name of ["kind", "expression", "amount", "unit", "timezone"]) url.searchParams.set(name, fields[name].value);
      try {
        const fresh = await part(url, "preview");
        if (fresh) document.getElementById("preview").replaceChildren(...fresh.childNodes);
      } catch { /* the server checks again when the form is sent */ }
    }, 250);
  };
  form.addEventListener("input", (event) => {
    if (event.target === fields.preset && fields.preset.value) {
      fields.expression.value = fields.preset.value;
      fields.preset.value = "";
    }
    show();
  });
  show();
}

let live = document.getElementById("live");
if (live && Number(live.dataset.refresh)) {
  const bottom = () => { const box = live.querySelector(".output"); if (box) box.scrollTop = box.scrollHeight; };
  bottom();
  const again = async () => {
    try {
      const fresh = await part(location.href, "live");
      if (!fresh) { location.reload(); return; }
      const box = live.querySelector(".output");
      const follow = !box || box.scrollHeight - box.scrollTop - box.clientHeight < 40;
      live.replaceWith(fresh);
      live = fresh;
      if (follow) bottom();
    } catch { /* the next try may go through */ }
    setTimeout(again, 1500);
  };
  setTimeout(again, 1000);
}
