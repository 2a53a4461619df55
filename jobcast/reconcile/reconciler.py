"""One Job: compare what the cluster says with what was published, and publish the difference.

Level-based: it is given a uid and nothing else, and calling it twice is harmless. It never sleeps and never reads a log
itself: where it has to wait it says for how long, and whoever drives it calls again. Three exits:

    done       nothing is left to publish now
    later      ask again after so many seconds, or when something about the Job changes
    raises     KubeError or LedgerError: the driver's workqueue retries with backoff
"""

import time
from collections.abc import Callable, Collection, Iterable, Sequence

import msgspec

from jobcast.event import PENDING, Event, Status
from jobcast.jobs.facts import EventBuilder, EventContext, Fact, LogRead, facts_due, unavailable
from jobcast.jobs.model import Job, Pod
from jobcast.jobs.observation import Observation
from jobcast.jobs.progress import NOTHING, Note, notes, progress, record_fields, summary
from jobcast.jobs.status import JobStatus, derive_status, infer_end
from jobcast.kube.errors import KubeError
from jobcast.ledger.ledger import CLAIM_SECONDS, ENDED, PROGRESS, Answer, Ledger, Outgoing, Step
from jobcast.logs.plan import LogPlan
from jobcast.logs.reader import LogReads
from jobcast.reconcile.pods import Pods
from jobcast.reconcile.view import Cluster, View, remembered, step_of
from jobcast.wire import encode

READS_WHILE_DOWN = 64
"""Logs read, or waiting for their store, while Redis is away: what they hold must not grow with the outage."""
STORING_SECONDS = 0.02
"""Until an end is looked at again whose log is read, when Redis is back and takes what has waited for it."""
OTHER_SECONDS = CLAIM_SECONDS / 4
"""How often a Job whose log another replica reads is looked at again."""


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """`later` is None when done, else seconds."""

    later: float | None = None
    published: tuple[Event, ...] = ()


DONE = Outcome()


class Reconciler:
    """Drives the ledger from a view of the cluster."""

    def __init__(
        self,
        view: View,
        cluster: Cluster,
        ledger: Ledger,
        logs: LogReads,
        *,
        namespaces: Collection[str] | None = None,
        log_wait: float = 10.0,
        all_logs: bool = False,
        looks: bool = True,
        holds: bool = False,
        clock: Callable[[], float] = time.monotonic,
        answered: Callable[[Answer], None] = lambda answer: None,
        published: Callable[[Event], None] = lambda event: None,
        refused: Callable[[Job, KubeError], None] = lambda job, error: None,
    ) -> None:
        self._view = view
        self._cluster = cluster
        self._ledger = ledger
        self._logs = LogPlan(logs, all_logs=all_logs, looks=looks)
        self._holds = holds
        """Every Job gets our finalizer, and keeps it until its end is published."""
        self._refused = refused
        """Called when a Job cannot be held: it is published all the same."""
        self._holding: set[str] = set()
        """Jobs that were given our finalizer; the view may not show it yet."""
        self._namespaces = namespaces
        """Those that are watched; None is all. Jobs of others are others' business."""
        # Half of the wait is for the Pods' watch, so that the log still has the other half.
        self._pods = Pods(view, cluster, patience=log_wait / 2, clock=clock)
        self._log_wait = log_wait
        self._clock = clock
        self._answered = answered
        self._on_published = published
        """Called with each event as soon as it is in the ledger: what is to be done after that may fail."""
        self._published: dict[str, str] = {}
        """By uid, the id of what was published last, PENDING or ENDED. A cache: the ledger decides."""
        self._since: dict[str, float] = {}
        """By uid, when an end was first seen that waits for its log."""
        self._summaries: dict[str, tuple[str | None, int, str, str]] = {}
        """By uid, what of its life the record has; of Jobs of which there is something to say."""
        self._noted: dict[str, set[str]] = {}
        """By uid, the ids of the progress that was published."""
        self._claims: set[str] = set()
        self._others: set[str] = set()
        """Jobs whose log another replica was reading when we asked."""

    async def has_memories(self) -> bool:
        """Whether recalling anything can be worth a round trip."""
        return not await self._ledger.is_empty()

    async def recall(self, uids: Sequence[str]) -> None:
        """Ask the ledger what was published about these Jobs, in one round trip: nothing published is worked out again."""
        self._published.update(await self._ledger.published(uids))

    def is_ended(self, uid: str) -> bool:
        return self._published.get(uid) is ENDED

    def published(self, uid: str) -> str | None:
        """The id of what was published last, PENDING or ENDED; None for a Job the ledger is not known to know."""
        return self._published.get(uid)

    def ended(self) -> Iterable[str]:
        return (uid for uid, published in self._published.items() if published is ENDED)

    def forget(self, uid: str) -> None:
        """The Job is gone, and was published or is none of ours: drop what is known of it."""
        self._published.pop(uid, None)
        self._stop_waiting(uid)

    def forget_all(self) -> None:
        """Redis may have lost what it had: believe nothing."""
        self._published.clear()
        self._summaries.clear()
        self._noted.clear()

    async def reconcile(self, uid: str) -> Outcome:
        job = self._view.job(uid)
        if self._published.get(uid) is ENDED:
            return await self._end(uid, job)
        if job is None:
            return await self._reconcile_unseen(uid)
        is_gone = self._view.is_gone(uid)
        await self._hold(job, is_gone)
        looked = self._clock()
        observed = await self._pods.observe(
            job, is_gone, looked if job.end is None else self._since.setdefault(uid, looked)
        )
        seen = infer_end(observed)
        now = derive_status(seen)
        facts = facts_due(job, now)
        if not facts:
            outcome = await self._record_pending(seen, now)
            await self._read_ahead(seen)  # of init containers that fail
            return outcome
        if self._published.get(uid) == facts[-1].id:
            await self._read_ahead(seen)
            return await self._publish_progress(seen, now)
        if is_gone and job.end is None and not await self._is_really_gone(job):
            # A watch with a selector says DELETED of a Job that merely lost its label: it is not ours any more.
            if job.held:
                await self._cluster.release(job.namespace, job.name, uid)
            self._view.drop(uid)
            self.forget(uid)
            return DONE
        read: LogRead | None = None
        if seen.job.end is not None:
            read, later = await self._log(seen)
            if self._published.get(uid) is ENDED:  # by the replica whose claim we waited for
                return await self._end(uid, job)
            if read is None:
                return Outcome(later)
        last = self._published.get(uid, PENDING)
        has_started = last != PENDING or now.has_run
        last_status = PENDING if not has_started else Status.SUSPENDED if job.suspended else Status.RUNNING
        context = EventContext(read, last_status, seen is not observed, self._logs.logs_of)
        return await self._publish(seen, now, facts, context)

    async def renew_claims(self) -> None:
        """To be called several times within CLAIM_SECONDS while claims are held."""
        for uid in list(self._claims):
            if not await self._ledger.claim(uid):
                self._claims.discard(uid)

    async def release_claims(self) -> None:
        """Let other replicas go on at once with what this one had begun."""
        claims, self._claims = self._claims, set()
        await self._ledger.release(claims)

    async def _publish(
        self, seen: Observation, now: JobStatus, facts: tuple[Fact, ...], context: EventContext
    ) -> Outcome:
        uid = seen.job.uid
        # All of them, also what was published already: the ledger passes over it. But the step may wait while Redis is away, and
        # Redis may have forgotten it by then.
        builder = EventBuilder(seen, context, now=self._cluster.now)
        events = [builder.event(fact) for fact in facts]
        outgoing = [Outgoing(fact.id, fact.status, encode(event)) for fact, event in zip(facts, events, strict=True)]
        status = Status.RUNNING if now.is_terminal else now.status
        noted = self._new_notes(seen)
        at = len(outgoing) - 1 if now.is_terminal else len(outgoing)  # nothing is published after an end
        outgoing[at:at] = [self._progress(seen, note, status) for note in noted]
        published = await self._ledger.step(self._step(seen, now, outgoing))
        self._answered(published.answer)
        count = events[-published.count :] if published.count else ()
        for event in count:
            self._on_published(event)
        if published.answer is Answer.ENDED or now.is_terminal:
            self._published[uid] = ENDED
            if count:
                self._logs.read_rest(seen)
            await self._end(uid, self._view.job(uid), seen.pods)
            return Outcome(None, tuple(count))
        if published.answer is not Answer.STALE:
            self._published[uid] = facts[-1].id
            self._note(seen, noted)
            await self._read_ahead(seen)
        return Outcome(self._logs.next_look(seen), tuple(count))

    async def _record_pending(self, seen: Observation, now: JobStatus) -> Outcome:
        """Nobody waits for it: it serves the Jobs that are deleted while no replica looks."""
        uid = seen.job.uid
        if self._published.get(uid) is not None:
            return await self._publish_progress(seen, now)
        published = await self._ledger.step(self._step(seen, now, ()))
        self._answered(published.answer)
        self._published[uid] = ENDED if published.answer is Answer.ENDED else PENDING
        self._note(seen, ())
        return DONE

    async def _publish_progress(self, seen: Observation, now: JobStatus) -> Outcome:
        """The status is published; what else there is to say of a Job that does not simply run."""
        noted = self._new_notes(seen)
        uid = seen.job.uid
        if noted or summary(seen) != self._summaries.get(uid, NOTHING):
            outgoing = [self._progress(seen, note, now.status) for note in noted]
            published = await self._ledger.step(self._step(seen, now, outgoing))
            self._answered(published.answer)
            if published.answer is Answer.ENDED:
                self._published[uid] = ENDED
                return await self._end(uid, self._view.job(uid), seen.pods)
            self._note(seen, noted)
        return Outcome(self._logs.next_look(seen))

    def _new_notes(self, seen: Observation) -> list[Note]:
        known = self._noted.get(seen.job.uid, ())
        return [note for note in notes(seen) if note.id not in known]

    def _progress(self, seen: Observation, note: Note, status: str) -> Outgoing:
        return Outgoing(note.id, PROGRESS, encode(progress(seen, note, status, self._logs.logs_of)))

    def _step(self, seen: Observation, now: JobStatus, outgoing: Sequence[Outgoing]) -> Step:
        return step_of(seen.job, now.status, outgoing, record_fields(seen, now, self._logs.logs_of))

    def _note(self, seen: Observation, noted: Iterable[Note]) -> None:
        """Remember what was published, of Jobs of which there is something to remember."""
        if ids := {note.id for note in noted}:
            self._noted.setdefault(seen.job.uid, set()).update(ids)
        if (found := summary(seen)) != NOTHING:
            self._summaries[seen.job.uid] = found
        else:
            self._summaries.pop(seen.job.uid, None)

    async def _hold(self, job: Job, gone: bool) -> None:
        if not self._holds or job.held or gone or job.deleted is not None or job.end is not None:
            return
        if job.uid in self._holding:
            return
        try:
            await self._cluster.hold(job.namespace, job.name, job.uid)
            self._holding.add(job.uid)
        except KubeError as error:
            self._refused(job, error)

    async def _reconcile_unseen(self, uid: str) -> Outcome:
        """A Job that the ledger holds open and that we do not see: gone while nobody looked, or none of ours."""
        row = await self._ledger.row(uid)
        if row is None or row.is_ended:
            await self._ledger.forget_open(uid)
            return DONE
        if self._namespaces is not None and row.namespace not in self._namespaces:
            return DONE
        job = remembered(row)
        if not await self._is_really_gone(job):
            return DONE
        if not await self._ledger.claim(uid):
            return Outcome(OTHER_SECONDS)  # who reads its log has seen how it ended, and publishes it soon
        pods = self._view.pods(uid)  # orphaned, or not collected yet
        seen = Observation(job, pods, is_gone=True)
        now = derive_status(seen)
        context = EventContext(last_status=row.status, logs=self._logs.logs_of)
        outcome = await self._publish(seen, now, facts_due(job, now), context)
        # No watch will say that it is gone, and nothing can come of it any more.
        self._published.pop(uid, None)
        return outcome

    async def _is_really_gone(self, job: Job) -> bool:
        found = await self._cluster.job(job.namespace, job.name)
        return found is None or found.uid != job.uid

    async def _log(self, seen: Observation) -> tuple[LogRead | None, float]:
        """The log of the attempt that decided; None, and for how long, while it has to be waited for."""
        job, decider = seen.job, seen.decider
        was_down = self._ledger.is_down
        since = self._since.setdefault(job.uid, self._clock())
        left = since + self._log_wait - self._clock()
        if decider is None:
            # The condition may be here before the Pod's own last word: each has its own watch.
            if left > 0 and any(not one.pod.gone and one.ended is None for one in seen.outcomes):
                return None, min(left, self._log_wait / 2)
            ran = any(one.container.has_run for one in seen.outcomes)
            return unavailable("pod-gone" if ran else "never-started" if seen.pods else "no-pod"), 0
        if not await self._claim(job.uid):
            return None, OTHER_SECONDS
        if was_down:
            # The end could not leave so far, and hardly any log was read: from now on there is all of the wait.
            self._since[job.uid], left = self._clock(), self._log_wait
        read = self._logs.want(job, decider)
        if read is None and left <= 0:
            # Redis may be what the read waits for, to store the log. Then there is time: the end cannot leave either.
            await self._ledger.claim(job.uid)
            read = self._logs.want(job, decider)
            if read is None and self._logs.is_storing(decider):
                return None, STORING_SECONDS
            read = read or unavailable("timeout", f"{decider.pod.name}/{decider.container.name}")
        return read, left

    async def _read_ahead(self, seen: Observation) -> None:
        """Read the log of each container that has ended, before the Job's end and before its Pod is cleaned up."""
        due = self._logs.due(seen)
        if due and await self._claim(seen.job.uid):
            for wanted in due:
                self._logs.start(wanted)

    async def _claim(self, uid: str) -> bool:
        if uid in self._claims:
            return True
        if self._ledger.is_down and self._logs.under_way < READS_WHILE_DOWN:
            # Nobody can claim anything now: better that two replicas read a log than that none does, and the Pod is gone when
            # Redis is back.
            return True
        if uid in self._others:
            row = await self._ledger.row(uid)
            if row is not None and row.is_ended:
                self._published[uid] = ENDED
                return False
        if not await self._ledger.claim(uid):
            self._others.add(uid)
            return False
        self._claims.add(uid)
        return True

    async def _end(self, uid: str, seen: Job | None, pods: Sequence[Pod] = ()) -> Outcome:
        """Its end is in the ledger: let go of it here, and in the cluster if we hold it there."""
        pods = pods or self._view.pods(uid)
        self._logs.drop(pods)
        is_gone = self._view.is_gone(uid)
        if seen is not None and seen.held and not is_gone:
            await self._cluster.release(seen.namespace, seen.name, uid)
        self._stop_waiting(uid)
        if is_gone:
            self._published.pop(
                uid, None
            )  # nothing can come of it any more, and a million of them would fill the memory
        self._view.drop(uid)
        return DONE

    def _stop_waiting(self, uid: str) -> None:
        self._pods.forget(uid)
        self._since.pop(uid, None)
        self._summaries.pop(uid, None)
        self._noted.pop(uid, None)
        self._holding.discard(uid)
        self._claims.discard(uid)
        self._others.discard(uid)
