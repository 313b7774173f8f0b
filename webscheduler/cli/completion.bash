# bash completion of webscheduler: eval "$(webscheduler completion bash)"
_webscheduler() {
  local line=${COMP_LINE:0:COMP_POINT} verb= previous= words= at= i
  local -a typed
  read -ra typed <<< "$line"
  local current=${typed[-1]}
  [[ $line == *' ' ]] && { current=; typed+=(""); }
  for ((i = 1; i < ${#typed[@]} - 1; i++)); do
    case ${typed[i]} in
    --home) ((i++)) ;;
    --at) ((i++)); at=elsewhere ;;
    -*) ;;
    *) verb=${typed[i]}; break ;;
    esac
  done
  previous=${typed[-2]}
  case $verb in
    "") words="--home --at --help --version {verbs}" ;;
{words}
  esac
  case $at$verb in
    {with_tasks}) words+=" $("${typed[0]}" {listed})" ;;
  esac
  case "$verb $previous" in
{values}
    " --home") words= ;;
    *" --at") words="all $("${typed[0]}" {sites})" ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  [[ $words ]] || compopt -o default
  [[ $current == *:* ]] && COMPREPLY=("${COMPREPLY[@]#"${current%"${current##*:}"}"}")
}
complete -F _webscheduler webscheduler
