# bash completion of webscheduler: eval "$(webscheduler completion bash)"
_webscheduler() {
  local line=${COMP_LINE:0:COMP_POINT} verb= previous= words= i
  local -a typed
  read -ra typed <<< "$line"
  local current=${typed[-1]}
  [[ $line == *' ' ]] && { current=; typed+=(""); }
  for ((i = 1; i < ${#typed[@]} - 1; i++)); do
    case ${typed[i]} in
    --home) ((i++)) ;;
    -*) ;;
    *) verb=${typed[i]}; break ;;
    esac
  done
  previous=${typed[-2]}
  case $verb in
    "") words="--home --help --version {verbs}" ;;
{words}
  esac
  case $verb in
    {with_tasks}) words+=" $("${typed[0]}" {listed})" ;;
  esac
  case "$verb $previous" in
{values}
    " --home") words= ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  [[ $words ]] || compopt -o default
  [[ $current == *:* ]] && COMPREPLY=("${COMPREPLY[@]#"${current%"${current##*:}"}"}")
}
complete -F _webscheduler webscheduler
