# fish completion of webscheduler: webscheduler completion fish | source
function __webscheduler_verb -d 'Whether this is the command that was typed; with nothing, whether none was'
    set -l words (commandline -opc)[2..]

    while set -q words[1]
        switch $words[1]
            case --home --at
                set words $words[3..]
            case '-*'
                set words $words[2..]
            case '*'
                break
        end
    end

    test "$words[1]" = "$argv[1]"
end

complete -c webscheduler -f
complete -c webscheduler -n __webscheduler_verb -l version -d 'Print the version'
complete -c webscheduler -n __webscheduler_verb -l help -d 'Explain the command'
complete -c webscheduler -l home -x -a '(__fish_complete_directories)' -d '{home}'
complete -c webscheduler -l at -x -a 'all (webscheduler {sites})' -d '{at}'
{lines}
