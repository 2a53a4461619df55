"""The page of the command line, from the commands' own help."""

from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from generators.tables import cell
from jobcast.cli.app import app


def page() -> str:
    lines = [
        "# The command line",
        "",
        "`pip install 'jobcast[cli]'`, or `kubectl exec` into a Pod of ours. `--redis-url` and `--prefix` say where Jobcast tells;",
        "without them `REDIS_URL` and `KEY_PREFIX` do. Exit codes: 0 done, 1 failed or nothing found, 2 wrong usage or settings,",
        "130 interrupted. Generated from the commands by `make docs`.",
    ]
    for name, command in _commands("jobcast", get_command(app)):
        lines += ["", f"## {name}", "", *_section(name, command)]
    return "\n".join(lines) + "\n"


def _commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Those that do something, in the order of the help; a group is the sum of its commands."""
    inner = getattr(command, "commands", None)
    if inner is None:
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
        yield from ("", "| option | what |", "| --- | --- |")
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
