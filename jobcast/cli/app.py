"""The command line: assembles the commands. Each has a file in `commands/`, with its options."""

from typing import Annotated

import typer

from jobcast import __version__
from jobcast.cli.commands import dead
from jobcast.cli.commands.demo import demo
from jobcast.cli.commands.doctor import doctor
from jobcast.cli.commands.finalizers import finalizers
from jobcast.cli.commands.get import get
from jobcast.cli.commands.lag import lag
from jobcast.cli.commands.list import list_
from jobcast.cli.commands.logs import logs
from jobcast.cli.commands.replay import replay
from jobcast.cli.commands.submit import submit
from jobcast.cli.commands.wait import wait
from jobcast.cli.commands.watch import watch
from jobcast.cli.options import command

app = typer.Typer(
    name="jobcast",
    help="Reliable events for Kubernetes Jobs: list, watch and wait for evaluations, read their logs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # they show locals, and locals hold passwords
    rich_markup_mode="rich",
)
dead_letters = typer.Typer(
    help="Dead letters: events that a handler gave up on. List, show, replay or drop them.", no_args_is_help=True
)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"jobcast {__version__}")  # noqa: T201 - the answer
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    pass


_LIST = "jobcast list --status failed --label pipeline=nightly --since 2h"
app.command("list", epilog=f"Example: {_LIST}")(command(list_))
app.command("ls", epilog="Example: jobcast ls -o wide", hidden=True)(command(list_))
app.command(epilog="Example: jobcast watch --status failed --label pipeline=nightly --since 2h")(command(watch))
app.command(epilog="Example: jobcast get eval-42 -o json")(command(get))
app.command(epilog="Example: jobcast logs eval-42 > eval-42.log")(command(logs))
app.command(epilog="Example: jobcast wait eval-42 --timeout 10m && echo passed")(command(wait))
app.command(
    epilog="Example: jobcast submit --image busybox --eval-id eval-42 -- sh -c 'echo hi'",
    context_settings={"allow_interspersed_args": False},  # what follows the command belongs to it
)(command(submit))
app.command(epilog="Example: jobcast doctor --namespace evals || echo something is broken")(command(doctor))
app.command(epilog="Example: jobcast finalizers --namespace evals --remove")(command(finalizers))
app.command(epilog="Example: jobcast replay --since 2h --status failed --handler score --dry-run")(command(replay))
app.command(epilog="Example: jobcast lag --max 1000 || echo a consumer group is behind")(command(lag))
app.command(epilog="Example: jobcast demo")(command(demo))
app.add_typer(dead_letters, name="dead")
dead_letters.command("list", epilog="Example: jobcast dead list --handler score --since 2h")(command(dead.list_))
dead_letters.command("show", epilog="Example: jobcast dead show 1795168800000-0")(command(dead.show))
dead_letters.command("replay", epilog="Example: jobcast dead replay --all --handler score --dry-run")(
    command(dead.replay)
)
dead_letters.command("drop", epilog="Example: jobcast dead drop --all --handler score --yes")(command(dead.drop))


def run() -> None:
    app()
