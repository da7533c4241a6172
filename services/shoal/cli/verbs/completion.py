"""Print the completion script of a shell: verbs, flags, kinds, and the names of objects as the cluster has them.

For bash: source <(shoal completion bash), in ~/.bashrc. For zsh the same in ~/.zshrc, after compinit. For fish: shoal
completion fish | source, in ~/.config/fish/config.fish.
"""

import argparse

from shoal.cli.arguments import Parser, UsageError
from shoal.cli.context import Context

USAGE = "bash | zsh | fish"
EXAMPLES = """
source <(shoal completion bash)
source <(shoal completion zsh)
shoal completion fish | source
"""

BASH = """\
_shoal() {
    local IFS=$'\\n'
    COMPREPLY=($(shoal __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=/] ]]; then compopt -o nospace; fi
}
complete -o default -F _shoal shoal
"""
ZSH = """\
_shoal() {
    local -a found
    found=("${(@f)$(shoal __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    [[ -n "$found" ]] && compadd -a found || _files
}
compdef _shoal shoal
"""
FISH = """\
function __shoal_complete
    set -l words (commandline -opc) (commandline -ct)
    shoal __complete $words[2..-1] 2>/dev/null
end
complete -c shoal -f -a '(__shoal_complete)'
complete -c shoal -s f -l filename -r -F
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def arguments(_parser: Parser) -> None:
    pass


def run(context: Context, args: argparse.Namespace) -> int:
    match args.names:
        case [shell] if shell in SCRIPTS:
            context.write(SCRIPTS[shell])
        case _:
            raise UsageError(f"name a shell: {', '.join(SCRIPTS)}")
    return 0
