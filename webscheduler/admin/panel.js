// Optional comfort: copy buttons, a preview while typing, output that updates itself. Every page works without it.
"use strict";

for (const part of document.querySelectorAll(".no-script")) part.hidden = true;

for (const button of document.querySelectorAll("[data-copy]")) {
  const field = document.getElementById(button.dataset.copy);
  const text = button.textContent;
  button.hidden = false;
  button.addEventListener("click", async () => {
    field.select();
    try {
      await navigator.clipboard.writeText(field.value);
    } catch {
      document.execCommand("copy"); // there is no clipboard object without https
    }
    button.textContent = button.dataset.done;
    setTimeout(() => { button.textContent = text; }, 2000);
  });
}

// Set-up: the browser knows the zone, and whether a proxy adds https.
const code = document.getElementById("code");
if (code && document.getElementById("baseUrl")) {
  const [zone, base] = ["timezone", "baseUrl"].map((id) => document.getElementById(id));
  if (zone.value === "UTC") zone.value = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
  if (location.protocol === "https:") base.value = base.value.replace(/^http:/, "https:");
}

async function part(url, id) {
  const answer = await fetch(url, { credentials: "same-origin", cache: "no-store" });
  if (!answer.ok) throw new Error(String(answer.status));
  return new DOMParser().parseFromString(await answer.text(), "text/html").getElementById(id);
}

// The list of tasks: a search while typing, and a box that selects all.
const find = document.querySelector(".find");
if (find) {
  let timer = 0;
  const search = async () => {
    const url = new URL(find.action, location.href);
    for (const [name, value] of new FormData(find)) if (value) url.searchParams.set(name, value);
    try {
      const fresh = await part(url, "list");
      if (fresh) document.getElementById("list").replaceChildren(...fresh.childNodes);
      history.replaceState(null, "", url);
      boxes();
    } catch { find.submit(); }
  };
  find.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(search, 200); });
  if (find.elements.search.value !== find.elements.search.defaultValue) search(); // typed before this script came
}

function boxes() {
  const all = document.getElementById("all");
  if (!all) return;
  all.hidden = false;
  all.addEventListener("change", () => {
    for (const box of document.querySelectorAll(".list [name^='task:']")) box.checked = all.checked;
  });
}
boxes();

const form = document.querySelector("[data-preview]");
if (form && form.elements.kind) {
  const fields = form.elements;
  let timer = 0;
  const fold = () => {
    for (const row of form.querySelectorAll("[data-kind]")) row.hidden = !row.dataset.kind.split(" ").includes(fields.kind.value);
  };
  form.addEventListener("input", () => {
    fold();
    clearTimeout(timer);
    timer = setTimeout(async () => {
      const url = new URL(form.dataset.preview, location.href);
      for (const name of ["kind", "expression", "amount", "unit", "at", "weekday", "monthday", "timezone"]) url.searchParams.set(name, fields[name].value);
      try {
        const fresh = await part(url, "preview");
        if (fresh) document.getElementById("preview").replaceChildren(...fresh.childNodes);
      } catch { /* the server checks the form when it is sent */ }
    }, 250);
  });
  fold();
}

let live = document.getElementById("live");
if (live && Number(live.dataset.refresh)) {
  const bottom = () => { const box = live.querySelector(".output"); if (box) box.scrollTop = box.scrollHeight; };
  bottom();
  const url = new URL(location.href);
  url.searchParams.set("poll", "1"); // nobody did anything, so this must not prolong the session
  const again = async () => {
    try {
      const fresh = await part(url, "live");
      if (!fresh) { location.reload(); return; }
      const box = live.querySelector(".output");
      const follow = !box || box.scrollHeight - box.scrollTop - box.clientHeight < 40;
      const more = fresh.querySelector(".output");
      if (box && more && more.innerHTML.startsWith(box.innerHTML)) { // what is shown stays, with what is selected in it
        box.insertAdjacentHTML("beforeend", more.innerHTML.slice(box.innerHTML.length));
        live.firstElementChild.replaceWith(fresh.firstElementChild);
      } else {
        live.replaceWith(fresh);
        live = fresh;
      }
      if (follow) bottom();
    } catch { /* the next try may work */ }
    setTimeout(again, Number(live.dataset.refresh) * 750);
  };
  setTimeout(again, 1000);
}

// The browser makes the probe's calls, one after the other, and then asks for the results.
const probe = document.getElementById("probe");
if (probe) {
  (async () => {
    let called = false;
    for (const link of probe.querySelectorAll("[data-call]")) {
      const field = link.parentElement.querySelector("input");
      const state = link.parentElement.querySelector("[data-state]");
      if (field.value) continue;
      const begun = performance.now();
      let status = 0;
      state.textContent = "…";
      try {
        const answer = await fetch(link.href, { credentials: "omit", cache: "no-store" });
        await answer.text();
        status = answer.status;
      } catch { /* no response at all: status 0 */ }
      field.value = `${status}:${Math.min(9999, (performance.now() - begun) / 1000).toFixed(3)}`;
      state.textContent = field.value.replace(":", " – ") + " s";
      called = true;
    }
    setTimeout(() => probe.submit(), called ? (Number(probe.dataset.seconds) + 2) * 1000 : 2000);
  })();
}
