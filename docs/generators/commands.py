"""The page of the command line, from the help of the commands."""

from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from generators.tables import cell
from jobcast.cli.app import app


def page() -> str:
    lines = [
        "# The command line",
        "",
        "Install it with `pip install 'jobcast[cli]'`, or run it with `kubectl exec` in a Pod of Jobcast.",
        "",
        "- `--redis-url` and `--prefix` default to `REDIS_URL` and `KEY_PREFIX`.",
        "- `-n`, `-l`, `-o json`, `--timeout` and `--no-color` mean the same for every command that has them. `NO_COLOR` works too.",
        "- At a terminal, times are ages (`3m ago`). In a pipe and in JSON they are RFC 3339, and the output is plain text.",
        "- Exit codes: 0 done, 1 failed or nothing found, 2 wrong usage or settings, 124 after `--timeout`, 130 interrupted.",
        "- `jobcast --install-completion` completes commands, options and evaluation ids.",
        "",
        "`make docs` generates this page from the commands.",
    ]
    for name, command in _commands("jobcast", get_command(app)):
        lines += ["", f"## {name}", "", *_section(name, command)]
    return "\n".join(lines) + "\n"


def _commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """The commands, in the order of the help; a group gives its commands. Hidden ones are left out."""
    inner = getattr(command, "commands", None)
    if inner is None:
        if not command.hidden:
            yield name, command
        return
    for word, one in inner.items():
        yield from _commands(f"{name} {word}", one)


def _section(name: str, command: Any) -> Iterator[str]:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
    yield f"`{' '.join([name, *map(_argument, arguments), *(['[OPTIONS]'] if options else [])])}`"
    yield ""
    yield from (line.strip("\b").replace("\\[", "[") for line in (command.help or "").splitlines())
    if command.epilog:
        yield from ("", *_example(command.epilog))
    if arguments or options:
        yield from ("", "| option | meaning |", "| --- | --- |")
    for one in arguments:
        yield f"| {cell(f'`{_argument(one)}`')} | {cell(one.help or '')} |"
    for one in options:
        names = ", ".join([*one.opts, *one.secondary_opts])
        takes = "" if one.is_flag else f" {one.metavar or one.name.upper()}"
        yield f"| {cell(f'`{names}{takes}`')} | {cell(one.help or '')} |"


def _argument(one: Any) -> str:
    name = one.metavar or one.name.upper()
    return (name if one.required else f"[{name}]") + ("..." if one.nargs == -1 else "")


def _example(epilog: str) -> list[str]:
    return [f"    {line.removeprefix('Example:').strip()}" for line in epilog.splitlines() if line.strip()]
