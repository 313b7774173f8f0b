#compdef webscheduler
# zsh completion of webscheduler: eval "$(webscheduler completion zsh)", after compinit
_webscheduler_tasks() {
  local -a names
  names=(${(f)"$(webscheduler {listed})"})
  compadd -a names
}
_webscheduler() {
  local -a verbs
  local state line
  verbs=(
{described}
  )
  _arguments -C '--home[{home}]:directory:_files -/' '--help' '--version' '1: :->verb' '*:: :->rest'
  case $state in
  verb) _describe command verbs ;;
  rest)
    case $words[1] in
{cases}
    esac ;;
  esac
}
compdef _webscheduler webscheduler
