"""One Job: compare what the cluster says with what was published, and publish the difference.

Level-based: it is given a uid and nothing else, and it may be called any number of times. It never sleeps and never reads a log
itself: where it has to wait it says for how long, and its driver calls again. Three exits:

    done       nothing is left to publish now
    later      ask again after so many seconds, or when something about the Job changes
    raises     KubeError or LedgerError: the driver's workqueue retries with backoff
"""

import time
from collections.abc import Callable, Collection, Iterable, Sequence

import msgspec

from jobcast.event import PENDING, Event, Status
from jobcast.jobs.facts import EventBuilder, EventContext, Fact, LogRead, facts_due, unavailable
from jobcast.jobs.model import Job, Pod, Suspension
from jobcast.jobs.observation import Observation
from jobcast.jobs.progress import NOTHING, Note, build_progress, build_record_fields, find_notes, summarize
from jobcast.jobs.status import JobStatus, derive_status, infer_end
from jobcast.kube.errors import Forbidden, KubeError
from jobcast.ledger.ledger import CLAIM_SECONDS, ENDED, PROGRESS, Answer, Ledger, Outgoing, Renamed, StepResult
from jobcast.logs.plan import LogPlan
from jobcast.reconcile.claims import Claims
from jobcast.reconcile.pods import Pods
from jobcast.reconcile.state import JobState
from jobcast.reconcile.view import Cluster, View, build_step, rebuild_job
from jobcast.wire import encode

READS_WHILE_DOWN = 64
"""Logs read, or waiting for their store, while Redis is unreachable: their memory must not grow with the outage."""
STORING_SECONDS = 0.02
"""How soon to look again at an end whose log is read and waits for Redis, which is reachable again."""
REFUSED_SECONDS = 5.0
"""How long a refusal must last: a RoleBinding that is replaced is missing for a second or two."""
OTHER_SECONDS = CLAIM_SECONDS / 4
"""How often to look again at a Job whose log another replica reads."""


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """`later` is None when done, else seconds."""

    later: float | None = None
    published: tuple[Event, ...] = ()


DONE = Outcome()


class Options(msgspec.Struct, frozen=True, kw_only=True):
    namespaces: Collection[str] | None = None
    """The watched ones; None is all. Vanished Jobs of other namespaces are left to other installations."""
    log_wait: float = 10.0
    """Seconds that an end waits for its log."""
    holds: bool = False
    """Every Job gets our finalizer, and keeps it until its end is published."""
    clock: Callable[[], float] = time.monotonic


class Hooks(msgspec.Struct, frozen=True, kw_only=True):
    """What the driver wants to know."""

    answered: Callable[[Answer], None] = lambda answer: None
    """The ledger's answer to a step."""
    published: Callable[[Event], None] = lambda event: None
    """Called as soon as the event is in the ledger: what follows may fail."""
    cannot_hold: Callable[[Job, KubeError], None] = lambda job, error: None
    """The API server rejected our finalizer. The Job is published all the same."""


class Reconciler:
    """Reconciles the Jobs of a view, one uid at a time and each uid by one task at a time."""

    def __init__(
        self,
        view: View,
        cluster: Cluster,
        ledger: Ledger,
        logs: LogPlan,
        options: Options = Options(),  # noqa: B008 - frozen
        hooks: Hooks = Hooks(),  # noqa: B008 - frozen
    ) -> None:
        self._view = view
        self._cluster = cluster
        self._ledger = ledger
        self._logs = logs
        self._options = options
        self._hooks = hooks
        self.claims = Claims(ledger)
        # Half of the wait is for the Pods' watch, so that the log still has the other half.
        self._pods = Pods(view, cluster, patience=options.log_wait / 2, clock=options.clock)
        self._jobs: dict[str, JobState] = {}
        """By uid, the Jobs that are open."""
        self._ended: set[str] = set()
        """The Jobs whose end is published and that still exist: a million of them must not have a record each."""

    async def has_memories(self) -> bool:
        """Whether `recall` can be worth a round trip."""
        return not await self._ledger.is_empty()

    async def recall(self, uids: Sequence[str]) -> None:
        """Ask the ledger what was published of these Jobs, in one round trip: that is not worked out again."""
        for uid, found in (await self._ledger.recall(uids)).items():
            if found.last_published is ENDED:
                self._ended.add(uid)
                self._jobs.pop(uid, None)
                continue
            self._ended.discard(uid)
            state = self._state(uid)
            state.last_published, state.eval_id = found.last_published, found.eval_id or None
            state.suspension = state.suspension or Suspension.parse(found.suspension)

    def is_ended(self, uid: str) -> bool:
        return uid in self._ended

    def last_published(self, uid: str) -> str | None:
        """The id of the event that was published last, PENDING or ENDED; None while the ledger was not asked."""
        state = self._jobs.get(uid)
        return ENDED if uid in self._ended else state.last_published if state is not None else None

    def ended_uids(self) -> Iterable[str]:
        return iter(self._ended)

    def forget(self, uid: str) -> None:
        """The Job does not exist any more, or is none of ours: drop its state."""
        self._ended.discard(uid)
        self._jobs.pop(uid, None)
        self.claims.drop(uid)

    def forget_all_published(self) -> None:
        """Redis may have lost data: trust nothing that it had answered."""
        self._ended.clear()
        for state in self._jobs.values():
            state.forget_published()

    async def reconcile(self, uid: str) -> Outcome:
        try:
            return await self._reconcile(uid)
        except Renamed as error:  # another replica recorded it, before its label was changed
            self._state(uid).eval_id = error.eval_id
            return await self._reconcile(uid)

    async def _reconcile(self, uid: str) -> Outcome:
        job = self._view.job(uid)
        if uid in self._ended:
            return await self._finish(uid, job)
        if job is None:
            return await self._reconcile_unseen(uid)
        state, is_gone = self._state(uid), self._view.is_gone(uid)
        job = state.with_first_id(job)
        await self._hold(job, is_gone, state)
        state.see_suspension(job)
        observed = await self._pods.observe(job, is_gone, state)
        seen = infer_end(observed)
        now = derive_status(seen)
        facts = facts_due(job, now)
        if not facts:
            outcome = await self._record_pending(seen, now, state)
            if uid not in self._ended:
                await self._read_ahead(seen, state)  # of init containers that fail
            return outcome
        if state.last_published == facts[-1].id:
            await self._read_ahead(seen, state)
            return await self._publish_progress(seen, now, state)
        if is_gone and job.end is None and not await self._is_really_gone(job, state):
            return await self._leave(job)
        read: LogRead | None = None
        if seen.job.end is not None:
            read, later = await self._read_log(seen, state)
            if uid in self._ended:  # by the replica whose claim we waited for
                return await self._finish(uid, job)
            if read is None:
                return Outcome(later)
        has_started = state.last_published not in (None, PENDING) or now.has_run
        last_status = PENDING if not has_started else Status.SUSPENDED if job.suspended else Status.RUNNING
        context = EventContext(read, last_status, seen is not observed, self._logs.logs_of)
        return await self._publish(seen, now, facts, context, state)

    async def _publish(
        self, seen: Observation, now: JobStatus, facts: tuple[Fact, ...], context: EventContext, state: JobState
    ) -> Outcome:
        uid = seen.job.uid
        # All facts, also those that were published: the ledger skips them. But the step may wait while Redis is unreachable, and
        # Redis may have lost them by then.
        builder = EventBuilder(seen, context, now=self._cluster.now)
        events = [builder.event(fact) for fact in facts]
        outgoing = [Outgoing(fact.id, fact.status, encode(event)) for fact, event in zip(facts, events, strict=True)]
        noted = _new_notes(seen, state)
        at = len(outgoing) - 1 if now.is_terminal else len(outgoing)  # nothing is published after an end
        status = Status.RUNNING if now.is_terminal else now.status
        outgoing[at:at] = [self._progress(seen, note, status) for note in noted]
        result = await self._step(seen, now, outgoing)
        published = tuple(events[-result.count :]) if result.count else ()
        for event in published:
            self._hooks.published(event)
        if result.answer is Answer.ENDED or now.is_terminal:
            if published:
                self._logs.read_rest(seen)
            await self._finish(uid, self._view.job(uid), seen.pods)
            return Outcome(None, published)
        if result.answer is not Answer.STALE:
            state.last_published = facts[-1].id
            _remember(seen, noted, state)
            await self._read_ahead(seen, state)
        return Outcome(self._logs.next_look(seen), published)

    async def _record_pending(self, seen: Observation, now: JobStatus, state: JobState) -> Outcome:
        """Publishes nothing: a recorded Job is cancelled later even if it is deleted while no replica runs."""
        if state.last_published is not None:
            return await self._publish_progress(seen, now, state)
        result = await self._step(seen, now)
        if result.answer is Answer.ENDED:
            return await self._finish(seen.job.uid, self._view.job(seen.job.uid), seen.pods)
        state.last_published = PENDING
        _remember(seen, (), state)
        return DONE

    async def _publish_progress(self, seen: Observation, now: JobStatus, state: JobState) -> Outcome:
        """The status is published; this is for Jobs that do not simply run."""
        noted = _new_notes(seen, state)
        if noted or summarize(seen) != state.summary:
            result = await self._step(seen, now, [self._progress(seen, note, now.status) for note in noted])
            if result.answer is Answer.ENDED:
                return await self._finish(seen.job.uid, self._view.job(seen.job.uid), seen.pods)
            _remember(seen, noted, state)
        return Outcome(self._logs.next_look(seen))

    def _progress(self, seen: Observation, note: Note, status: str) -> Outgoing:
        return Outgoing(note.id, PROGRESS, encode(build_progress(seen, note, status, self._logs.logs_of)))

    async def _step(self, seen: Observation, now: JobStatus, outgoing: Sequence[Outgoing] = ()) -> StepResult:
        fields = build_record_fields(seen, now, self._logs.logs_of)
        result = await self._ledger.step(build_step(seen.job, now.status, outgoing, fields, seen.suspension))
        self._hooks.answered(result.answer)
        if (state := self._jobs.get(seen.job.uid)) is not None:
            state.eval_id = seen.job.eval_id
        return result

    async def _hold(self, job: Job, is_gone: bool, state: JobState) -> None:
        if not self._options.holds or job.held or state.is_held:
            return
        if is_gone or job.deleted is not None or job.end is not None:
            return
        try:
            await self._cluster.hold(job.namespace, job.name, job.uid)
            state.is_held = True
        except KubeError as error:
            self._hooks.cannot_hold(job, error)

    async def _reconcile_unseen(self, uid: str) -> Outcome:
        """A Job that is open in the ledger and not in view: it vanished while no replica looked, or is none of ours."""
        row = await self._ledger.row(uid)
        if row is None or row.is_ended:
            await self._ledger.forget_open(uid)
            return DONE
        namespaces = self._options.namespaces
        if namespaces is not None and row.namespace not in namespaces:
            return DONE
        job = rebuild_job(row)
        if not await self._is_really_gone(job, JobState()):
            return DONE
        if not await self._ledger.claim(uid):
            return Outcome(OTHER_SECONDS)  # the replica that reads its log saw how it ended, and publishes that soon
        seen = Observation(job, self._view.pods(uid), is_gone=True)  # orphaned Pods, or ones not collected yet
        now = derive_status(seen)
        context = EventContext(last_status=row.status, logs=self._logs.logs_of)
        outcome = await self._publish(seen, now, facts_due(job, now), context, JobState())
        self.forget(uid)  # no watch will ever say that it is gone
        return outcome

    async def _is_really_gone(self, job: Job, state: JobState) -> bool:
        """Raises KubeError while the API server does not say. A refusal that lasts confirms the deletion that the watch has
        brought: a namespace goes with the RoleBinding that let us look. Without that it confirms nothing."""
        try:
            found = await self._cluster.job(job.namespace, job.name)
        except Forbidden:
            now = self._options.clock()
            state.refused_since = now if state.refused_since is None else state.refused_since
            if not self._view.was_deleted(job.uid) or now - state.refused_since < REFUSED_SECONDS:
                raise
            return True
        return found is None or found.uid != job.uid

    async def _leave(self, job: Job) -> Outcome:
        """The Job exists. A watch with a selector says DELETED of a Job that only lost its label: it is not ours any more."""
        if job.held:
            await self._cluster.release(job.namespace, job.name, job.uid)
        self._view.drop(job.uid)
        self.forget(job.uid)
        return DONE

    async def _read_log(self, seen: Observation, state: JobState) -> tuple[LogRead | None, float]:
        """The log of the deciding attempt; None, and for how many seconds, while it has to be waited for."""
        job, decider, was_down = seen.job, seen.decider, self._ledger.is_down
        clock, patience = self._options.clock, self._options.log_wait
        left = state.see_end(clock()) + patience - clock()
        # The condition may be here before the Pod's last state: each has its own watch.
        is_late = not seen.is_explained and any(one.may_end for one in seen.outcomes)
        if left > 0 and is_late:
            return None, min(left, patience / 2)
        if decider is None:
            has_run = any(one.container.has_run for one in seen.outcomes)
            return unavailable("pod-gone" if has_run else "never-started" if seen.pods else "no-pod"), 0
        if not await self._claim(job.uid, state):
            return None, OTHER_SECONDS
        if was_down:
            # The end could not be published until now, and hardly any log was read: the wait starts again.
            state.end_seen, left = clock(), patience
        read = self._logs.want(job, decider)
        if read is None and left <= 0:
            # The read may wait for Redis to store the log. Then there is time: the end cannot be published either.
            await self._ledger.claim(job.uid)
            read = self._logs.want(job, decider)
            if read is None and self._logs.is_storing(decider):
                return None, STORING_SECONDS
            read = read or self._logs.get_part(decider)
            read = read or unavailable("timeout", f"{decider.pod.name}/{decider.container.name}")
        return read, left

    async def _read_ahead(self, seen: Observation, state: JobState) -> None:
        """Read the log of each container that has ended, before the Job's end and before its Pod is cleaned up."""
        due = self._logs.due(seen)
        if due and await self._claim(seen.job.uid, state):
            for wanted in due:
                self._logs.start(wanted)

    async def _claim(self, uid: str, state: JobState) -> bool:
        """Whether this replica may read the Job's logs."""
        if self._ledger.is_down and self._logs.under_way < READS_WHILE_DOWN:
            # No replica can claim anything now. Better that two read a log than that none does and the Pod is deleted.
            return True
        if state.is_claimed_elsewhere:
            row = await self._ledger.row(uid)
            if row is not None and row.is_ended:
                self._ended.add(uid)
                return False
        is_ours = await self.claims.take(uid)
        state.is_claimed_elsewhere = not is_ours
        return is_ours

    async def _finish(self, uid: str, job: Job | None, pods: Sequence[Pod] = ()) -> Outcome:
        """Its end is in the ledger: drop what is kept of it here, and release it in the cluster if it is held there."""
        self._ended.add(uid)
        self._logs.drop(pods or self._view.pods(uid))
        is_gone = self._view.is_gone(uid)
        if job is not None and job.held and not is_gone:
            await self._cluster.release(job.namespace, job.name, uid)
        self._jobs.pop(uid, None)
        self.claims.drop(uid)
        if is_gone:
            self._ended.discard(uid)
        self._view.drop(uid)
        return DONE

    def _state(self, uid: str) -> JobState:
        state = self._jobs.get(uid)
        if state is None:
            state = self._jobs[uid] = JobState()
        return state


def _new_notes(seen: Observation, state: JobState) -> list[Note]:
    return [note for note in find_notes(seen) if note.id not in state.notes]


def _remember(seen: Observation, noted: Sequence[Note], state: JobState) -> None:
    if noted:
        state.notes = state.notes.union(note.id for note in noted)
    # Most Jobs have nothing to remember, and share what says so.
    state.summary = found if (found := summarize(seen)) != NOTHING else NOTHING
