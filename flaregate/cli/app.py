"""The commands. Each opens a client, asks, prints, and ends with an exit code that says how it went."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from flaregate import flows
from flaregate.cli import doctor, files, live, planned, report, saving, service, tabular, words
from flaregate.cli.exits import Exit, exit_of
from flaregate.client import Client, Job
from flaregate.errors import FlaregateError, GatewayUnavailable, Refused
from flaregate.subjects import fitted_of
from flaregate_wire.definitions import Action, JobDefinition
from flaregate_wire.events import OutcomeEvent, encode
from flaregate_wire.jobs import JobView
from flaregate_wire.planning import plan
from flaregate_wire.states import State

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Runs pipelines on Ray clusters that exist only while they work.",
    epilog="Exit codes: 0 succeeded, 1 failed or some candidates failed, 2 usage, 3 cancelled, 4 timed out, "
    "5 gateway or platform fault, 6 cost cap, 75 not done yet, try again.",
)
out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)


class Output(StrEnum):
    """How a command writes its answer."""

    TEXT = "text"
    JSON = "json"
    NDJSON = "ndjson"


JobFile = Annotated[Path, typer.Argument(help="The job, YAML or JSON; - reads standard input.", show_default=False)]
JobId = Annotated[str, typer.Argument(help="The job's id.", show_default=False)]
Format = Annotated[Output, typer.Option("--output", "-o", help="text, json (the job) or ndjson (its events).")]
Key = Annotated[str | None, typer.Option("--idempotency-key", help="The same key gives the same job, once.")]
Keep = Annotated[
    str | None,
    typer.Option("--keep", help="Seconds from its end until the job is removed, or forever.", metavar="SECONDS"),
]
Tail = Annotated[int | None, typer.Option("--tail", min=0, help="Only the last lines.")]


@app.command()
def run(
    file: JobFile,
    save: Annotated[Path | None, typer.Option(help="Where to write the best fitted pipeline.")] = None,
    output: Format = Output.TEXT,
    idempotency_key: Key = None,
    keep: Keep = None,
) -> None:
    """Run a job and show it while it runs; Ctrl-C cancels it."""
    definition = files.read(file, keep)
    with Client() as client:
        job = client.submit_definition(definition, idempotency_key=idempotency_key)
        if output is Output.TEXT:
            out.print(f"{job.id}  {definition.action} {definition.pipeline.name!r} at {client.url}", highlight=False)
        with _cancelling(job):
            best = _follow(job, output, definition)
            view = job.wait()
        _finish(job, view, best, output, save)


@app.command("plan")
def show_plan(file: JobFile, output: Format = Output.TEXT) -> None:
    """Say what a job would do, without running it: candidates, folds, tasks, where it would run, what it would cost."""
    definition = files.read(file)
    with Client(warm=0) as client:
        found = client.plan_definition(definition)
    if output is not Output.TEXT:
        return out.print(found.model_dump_json(exclude_none=True), markup=False, highlight=False)
    for line in planned.lines(definition, found):
        out.print(line, markup=False, highlight=False)
    return None


@app.command()
def submit(file: JobFile, idempotency_key: Key = None, output: Format = Output.TEXT, keep: Keep = None) -> None:
    """Submit a job to a gateway that stays, and print the job's id."""
    definition = files.read(file, keep)
    with Client(embedded=False) as client:
        job = client.submit_definition(definition, idempotency_key=idempotency_key)
        out.print(job.id if output is Output.TEXT else _json(job.view()), markup=False, highlight=False)
        err.print(f"{client.url}/v1/jobs/{job.id}", markup=False, highlight=False)


@app.command()
def wait(
    job_id: JobId,
    timeout: Annotated[float | None, typer.Option(min=0, help="Seconds; then exit code 75.")] = None,
    output: Format = Output.TEXT,
) -> None:
    """Wait until a job has ended; the exit code says how."""
    with Client(warm=0) as client:
        job = client.job(job_id)
        try:
            view = job.wait(timeout=timeout)
        except TimeoutError:
            err.print(f"{job_id} has not ended after {timeout:g} s")
            raise typer.Exit(Exit.TRY_AGAIN) from None
        _finish(job, view, None, output, None)


@app.command()
def status(job_id: JobId, output: Format = Output.TEXT) -> None:
    """Show where a job is."""
    with Client(warm=0) as client:
        view = client.job(job_id).view()
    if output is not Output.TEXT:
        return out.print(_json(view), markup=False, highlight=False)
    return report.show(out, view, None)


@app.command()
def logs(
    job_id: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False,  # noqa: FBT002
    tail: Tail = None,
    cell: Annotated[int | None, typer.Option("--cell", min=0, help="Only what this cell of a sweep printed.")] = None,
) -> None:
    """Print what a job's code has printed."""
    with Client(warm=0) as client:
        for line in client.job(job_id).logs(follow=follow, tail=tail, cell=cell):
            sys.stdout.write(line if line.endswith("\n") else f"{line}\n")
            sys.stdout.flush()


@app.command()
def events(
    job_id: JobId,
    after: Annotated[int, typer.Option(min=0, help="Only events with a greater id.")] = 0,
) -> None:
    """Print a job's events, one JSON document a line, until it ends."""
    with Client(warm=0) as client:
        for event in client.job(job_id).events(after=after):
            sys.stdout.write(encode(event).decode() + "\n")
            sys.stdout.flush()


@app.command()
def results(
    job_id: JobId,
    form: Annotated[
        saving.Form | None,
        typer.Option("--format", "-f", help="text (a table), ndjson, csv, parquet, or of groups json."),
    ] = None,
    group_by: Annotated[
        str | None, typer.Option(help="Axes, separated by commas: mean and std of each group of equal values.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write; its ending says the format.")
    ] = None,
) -> None:
    """Show a job's outcomes: a table on a terminal when it has ended, else one JSON document a line as they arrive.

    CSV, Parquet and groups wait until the job has ended.
    """
    chosen = saving.chosen(form, group_by, to, terminal=out.is_terminal)
    with Client(warm=0) as client:
        job = client.job(job_id)
        if chosen is not saving.Form.TEXT:
            return saving.save(client.link, job, chosen, group_by, to)
        shown = [event for event in job.events() if isinstance(event, OutcomeEvent)]
        return out.print(tabular.table(shown, job.view().definition))


@app.command()
def artifacts(
    job_id: JobId,
    name: Annotated[str | None, typer.Argument(help="Download this one.", show_default=False)] = None,
    to: Annotated[
        Path | None, typer.Option("--to", "--output", "-o", help="The file to write; default: the artifact's name.")
    ] = None,
) -> None:
    """List what a job left in the store, or download one of it."""
    with Client(warm=0) as client:
        job = client.job(job_id)
        if name is None:
            for item in job.artifacts():
                out.print(f"{item.name}  {item.size} bytes  {item.media_type}  {item.sha256}", highlight=False)
            return
        path = to or Path(name)
        job.download(name, path)
        out.print(f"wrote {path}", markup=False, highlight=False)


@app.command()
def cancel(job_id: JobId) -> None:
    """Cancel a job, in whatever state it is."""
    with Client(warm=0) as client:
        view = client.job(job_id).cancel()
    out.print(f"{job_id} {view.state if view.state.terminal else 'is being cancelled'}", highlight=False)


@app.command()
def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,  # noqa: FBT002
    job_id: Annotated[
        str | None, typer.Option("--from", help="Remove what this job has put into the cache; it may be gone.")
    ] = None,
    output: Format = Output.TEXT,
) -> None:
    """Remove what is not needed any more: jobs whose time is over, and what nothing refers to.

    With --from, all that a job's attempts have put into the cache instead; other jobs compute it again.
    """
    if job_id is not None and dry_run:
        raise typer.BadParameter("--from removes at once; leave --dry-run out")
    with Client(warm=0) as client:
        if job_id is not None:
            gone = client.link.run(flows.forgetting(job_id))
            told = f"removed {gone.objects} objects of {job_id}, {words.size(gone.size)}"
            return out.print(told, markup=False, highlight=False)
        found = client.link.run(flows.collecting_garbage(dry_run=dry_run))
    if output is Output.TEXT:
        return out.print(tabular.garbage(found))
    return out.print(found.model_dump_json(), markup=False, highlight=False)


@app.command("list")
def list_jobs(
    state: Annotated[State | None, typer.Option(help="Only jobs in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most this many.")] = 20,
    output: Format = Output.TEXT,
) -> None:
    """List jobs, newest first."""
    with Client(warm=0) as client:
        for view in client.jobs(state=state, limit=limit):
            if output is Output.TEXT:
                when, reason = f"{view.created:%Y-%m-%d %H:%M:%S}", f"({view.reason})" if view.reason else ""
                row = f"{view.id}  {when}  {view.state:<10} {view.action:<14} {view.name} {reason}"
                out.print(row, markup=False, highlight=False)
            else:
                out.print(view.model_dump_json(exclude_none=True), markup=False, highlight=False)


@app.command("doctor")
def examine(
    platform: Annotated[
        str | None, typer.Option(help="The gateway's platform: local, container, code_engine, kubernetes, aws_batch.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=10, max=86_400, help="Seconds for the whole.")] = 600,
    output: Format = Output.TEXT,
) -> None:
    """Run a head and a worker on the gateway's platform, and say which of them reached what, and what to do.

    Ctrl-C cancels it.
    """
    with Client(warm=0) as client:
        name = doctor.check_platform(client, platform)
        job = doctor.begin(client, timeout)
        with _cancelling(job):
            found = doctor.examine(job, name, live.Lines(err).show)
    if output is Output.TEXT:
        doctor.show(out, found)
    else:
        out.print(doctor.as_json(found), markup=False, highlight=False)
    raise typer.Exit(doctor.exit_for(found.view, found.steps))


@app.command()
def up(
    port: Annotated[int, typer.Option(min=0, max=65535, help="On 127.0.0.1; 0 takes a free one.")] = 0,
) -> None:
    """Keep a gateway running on this machine until it is interrupted."""
    raise typer.Exit(service.up(port))


@contextlib.contextmanager
def _cancelling(job: Job) -> Iterator[None]:
    """Ctrl-C in here cancels the job; a second one leaves at once."""
    try:
        yield
    except KeyboardInterrupt:
        err.print(f"\ncancelling {job.id} (Ctrl-C again leaves at once)", highlight=False)
        job.cancel()
        raise typer.Exit(exit_of(job.wait())) from None


def _follow(job: Job, output: Output, definition: JobDefinition) -> OutcomeEvent | None:
    """Show events until the end; gives the best outcome, where anything ranks them."""
    best: OutcomeEvent | None = None
    rank = live.ranking(definition)
    with live.view(out, _expected(definition), rank) if output is Output.TEXT else contextlib.nullcontext() as shown:
        for event in job.events():
            if shown is not None:
                shown.show(event)
            if output is Output.NDJSON:
                sys.stdout.write(encode(event).decode() + "\n")
                sys.stdout.flush()
            if isinstance(event, OutcomeEvent) and rank(event) < (rank(best) if best else (True, 0.0, 0)):
                best = event
    return None if best is None or rank(best)[0] else best


def _expected(definition: JobDefinition) -> int | None:
    """How many outcomes a job will have; None where its course decides that."""
    if definition.action is Action.MAP:
        return definition.blocks
    if definition.strategy == "halving":
        return None
    return len(plan(definition)) * max(1, len(definition.objects))


def _finish(job: Job, view: JobView, best: OutcomeEvent | None, output: Output, save: Path | None) -> None:
    if output is Output.JSON:
        out.print(_json(view), markup=False, highlight=False)
    elif output is Output.TEXT:
        report.show(out, view, best)
    if save is not None and view.state is State.SUCCEEDED:
        job.download(fitted_of(job.artifacts(), job.id).name, save)
        size = words.size(save.stat().st_size)
        err.print(
            f"saved     {save} ({size}); flaregate.fitted.load({str(save)!r}, trust=True) reads it", highlight=False
        )
    raise typer.Exit(exit_of(view))


def _json(view: JobView) -> str:
    return view.model_dump_json(exclude_none=True, by_alias=True)


def main() -> None:
    """Run the command line; every error is a message and an exit code, never a traceback."""
    sys.exit(_guarded(app))


def _guarded(command: Callable[[], None]) -> int:
    try:
        command()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else Exit.USAGE
    except Refused as refused:
        err.print(f"refused: {refused}", style="red", markup=False, highlight=False)
        for fault in refused.errors:
            err.print(f"  {fault.message}  ({fault.pointer})", markup=False, highlight=False)
        return Exit.USAGE
    except GatewayUnavailable as away:
        err.print(str(away), style="red", markup=False, highlight=False)
        return Exit.TRY_AGAIN if away.retryable else Exit.PLATFORM
    except FlaregateError as error:
        err.print(str(error), style="red", markup=False, highlight=False)
        return Exit.FAILED
    except BrokenPipeError:
        sys.stderr.close()
        return Exit.SUCCEEDED
    except KeyboardInterrupt:
        return Exit.CANCELLED
    return Exit.SUCCEEDED
