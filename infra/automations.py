"""Automations at a Prefect server: crashed runs are marked, and what is late, missing or out of the ordinary alarms.

    python -m infra.automations --line line-1 --line line-2 --notify slack-webhook/plant

Registering again updates automations instead of doubling them; with ``--keep``, as at each start of the system, it adds
those that are missing and leaves the others alone. An alarm stands in the server's event feed and on the automation's
page; with ``--notify`` it also goes through a block that you made in the UI: a Webhook, or any notification block
(Slack, e-mail, Teams, ...).

A run is taken for dead on the assumption that it sends a heartbeat every 30 seconds, Prefect's shortest interval. The
deployments in `prefect.yaml` and the command line see to it; Prefect's default is 180.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated

import typer
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ActionTypes, CallWebhook, ChangeFlowRunState, DoNothing, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound

from flows import events
from flows.exit_status import exit_on_error
from flows.prefect_api import check_api, server
from ssdnet_core.errors import UsageError

HEARTBEAT_EVENT = "prefect.flow-run.heartbeat"
FLOWS = ("inspect", "evaluate", "nightly", "backfill")
ENDED = ("Completed", events.NO_IMAGES, "Failed", "Cancelled", "Crashed")
SILENT = [f"prefect.flow-run.{state}" for state in (*ENDED, "AwaitingRetry")]
"""Events of a run that sends no heartbeat from then on: it has ended, or waits to be started anew, as it does in
Kubernetes after its pod was told to end."""

SILENCE = timedelta(seconds=45)
"""After a heartbeat; with one every 30 s and a look every 5 s, a run is marked 15 to 50 s after its death."""

SHORTEST_HOURS = 0.003
"""Hours to wait for a night at least: Prefect does so for no less than ten seconds."""

LONGEST_HOURS = 8760
"""Hours: a year."""

MESSAGE = (
    "{{ automation.name }}: {{ event.resource['prefect.resource.name'] }}"
    "{% for one in event.related if one.role == 'deployment' %} ({{ one.name }}){% endfor %}"
    " {{ event.payload | tojson }}"
)


class UnknownBlockError(UsageError):
    """There is no such notification block at the server."""


def automations(*, hours: float, idle_hours: float, alarm: Sequence[ActionTypes] = ()) -> list[AutomationCore]:
    """Return the automations.

    Parameters
    ----------
    hours
        Within these, after a line's night is sealed or found without images, the next must be.
    idle_hours
        Within these, after a line's night is sealed, another must be, even if it stood still meanwhile.
    alarm
        What an alarm does, beside standing in the event feed.
    """
    actions = list(alarm) or [DoNothing()]
    crashed = ChangeFlowRunState(
        state=StateType.CRASHED,
        message="No heartbeat: the process died, or its machine. Run it again to go on where it stopped.",
    )
    return [
        AutomationCore(
            name="SSDnet: crashed run",
            description="Marks a run as crashed that sends no heartbeat: its process died with its worker.",
            trigger=_absence(
                {HEARTBEAT_EVENT, *SILENT},
                of="prefect.flow-run.*",
                after={HEARTBEAT_EVENT},
                within=SILENCE,
                flows=FLOWS,
            ),
            actions=[crashed],
        ),
        AutomationCore(
            name="SSDnet: missing night",
            description=f"Alarms if no night is sealed or found without images {hours:g} hours after the one before.",
            # Not the seal of any batch: backfilling old nights must not hide that a new one is missing.
            trigger=_absence(
                {events.UP_TO_DATE, events.STOOD_STILL},
                of="ssdnet.line.*",
                after={events.UP_TO_DATE, events.STOOD_STILL, events.WATCHED},
                within=timedelta(hours=hours),
            ),
            actions=actions,
        ),
        AutomationCore(
            name="SSDnet: idle line",
            description=f"Alarms if no night of a line is sealed for {idle_hours:g} hours, even if it stood still.",
            # Standing still does not start the wait: a line that rests for long alarms once, not again and again.
            trigger=_absence(
                {events.UP_TO_DATE},
                of="ssdnet.line.*",
                after={events.UP_TO_DATE, events.WATCHED},
                within=timedelta(hours=idle_hours),
            ),
            actions=actions,
        ),
        AutomationCore(
            name="SSDnet: late night",
            description="Alarms if no worker takes a nightly run.",
            trigger=_presence({"prefect.flow-run.Late"}, of="prefect.flow-run.*", flows=["nightly"]),
            actions=actions,
        ),
        AutomationCore(
            name="SSDnet: failed night",
            description="Alarms if a nightly run fails or crashes.",
            trigger=_presence(
                {"prefect.flow-run.Failed", "prefect.flow-run.Crashed"}, of="prefect.flow-run.*", flows=["nightly"]
            ),
            actions=actions,
        ),
        AutomationCore(
            name="SSDnet: failed images",
            description=f"Alarms if more than {100 * events.TOLERATED_SHARE:g} % of a batch's images could not be "
            "inspected.",
            trigger=_presence({events.MANY_FAILED}, of="ssdnet.batch.*"),
            actions=actions,
        ),
        AutomationCore(
            name="SSDnet: defect rate",
            description="Alarms if the defect rate of a night is not what the nights before it let expect.",
            trigger=_presence({events.DEFECT_RATE_JUMP}, of="ssdnet.batch.*"),
            actions=actions,
        ),
        AutomationCore(
            name="SSDnet: drift",
            description="Alarms if the scores of a night are not what the nights before them let expect.",
            trigger=_presence({events.SCORE_DRIFT}, of="ssdnet.batch.*"),
            actions=actions,
        ),
    ]


def _presence(expect: set[str], *, of: str, flows: Sequence[str] = ()) -> EventTrigger:
    return EventTrigger(
        expect=expect,
        match={"prefect.resource.id": of},
        match_related=_of_flows(flows),
        for_each={"prefect.resource.id"},
        posture=Posture.Reactive,
    )


def _absence(
    expect: set[str], *, of: str, after: set[str], within: timedelta, flows: Sequence[str] = ()
) -> EventTrigger:
    return EventTrigger(
        after=after,
        expect=expect,
        match={"prefect.resource.id": of},
        match_related=_of_flows(flows),
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        within=within,
    )


def _of_flows(names: Sequence[str]) -> dict[str, str | list[str]]:
    return {"prefect.resource.role": "flow", "prefect.resource.name": list(names)} if names else {}


def register(
    client: SyncPrefectClient, wanted: Sequence[AutomationCore], *, keep: bool = False
) -> list[AutomationCore]:
    """Create the automations, or change those of the same names; a second of one name is deleted.

    Parameters
    ----------
    keep
        Leave those whose names are there as they are, with what a user gave them.

    Returns
    -------
    list of AutomationCore
        Those that were created or changed.
    """
    registered = []
    for automation in wanted:
        there = client.read_automations_by_name(automation.name)
        if there and keep:
            continue
        for surplus in there[1:]:
            client.delete_automation(surplus.id)
        if there:
            client.update_automation(there[0].id, automation)
        else:
            client.create_automation(automation)
        registered.append(automation)
    return registered


def notification(client: SyncPrefectClient, block: str) -> ActionTypes:
    """Return the action that sends an alarm through a block.

    Parameters
    ----------
    block
        Type and name, as ``slack-webhook/plant`` or ``webhook/plant``.

    Raises
    ------
    UnknownBlockError
        If the server has no such block.
    """
    kind, _, name = block.partition("/")
    try:
        document = client.read_block_document_by_name(name, kind)
    except ObjectNotFound as error:
        raise UnknownBlockError(
            f"the Prefect server has no block {block!r}: make one in its UI under Blocks, and give its TYPE/NAME"
        ) from error
    if kind == "webhook":
        return CallWebhook(block_document_id=document.id, payload=MESSAGE)
    return SendNotification(block_document_id=document.id, subject="{{ automation.name }}", body=MESSAGE)


def main(  # noqa: PLR0917 - typer calls by name
    line: Annotated[
        list[str] | None, typer.Option(help="Line whose first night is awaited from now on. Repeatable.")
    ] = None,
    hours: Annotated[
        float,
        typer.Option(min=SHORTEST_HOURS, max=LONGEST_HOURS, help="A night is missing so long after the one before."),
    ] = 26,
    idle_hours: Annotated[
        float,
        typer.Option(
            min=SHORTEST_HOURS,
            max=LONGEST_HOURS,
            help="A line is idle so long after its last sealed night; by default a long weekend.",
        ),
    ] = 98,
    notify: Annotated[
        list[str] | None, typer.Option(help="Block that alarms go through, as webhook/plant. Repeatable.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave automations that are there as they are, and create the others.")
    ] = False,
) -> None:
    """Register the automations at the server that PREFECT_API_URL names."""
    # Prefect would start a server of its own for a moment where none is named.
    exit_on_error(lambda: check_api(purpose="to register the automations"))

    def register_all() -> list[AutomationCore]:
        with server() as client:
            alarm = [notification(client, block) for block in notify or []]
            return register(client, automations(hours=hours, idle_hours=idle_hours, alarm=alarm), keep=keep)

    registered = exit_on_error(register_all)
    for name in line or []:
        events.line_watched(name)
    for automation in registered:
        typer.echo(f"{automation.name}: {automation.description}")


if __name__ == "__main__":
    typer.run(main)
