#compdef webscheduler
# zsh completion of webscheduler: eval "$(webscheduler completion zsh)", after compinit
_webscheduler_tasks() {
  [[ $elsewhere ]] && return
  local -a names
  names=(${(f)"$(webscheduler {listed})"})
  compadd -a names
}
_webscheduler_sites() {
  local -a names
  names=(all ${(f)"$(webscheduler {sites})"})
  compadd -a names
}
_webscheduler() {
  local -a verbs
  local state line
  verbs=(
{described}
  )
  _arguments -C '--home[{home}]:directory:_files -/' '--at[{at}]:site:_webscheduler_sites' '--help' '--version' '1: :->verb' '*:: :->rest'
  local elsewhere=${opt_args[--at]}
  case $state in
  verb) _describe command verbs ;;
  rest)
    case $words[1] in
{cases}
    esac ;;
  esac
}
compdef _webscheduler webscheduler
