"""Every error that Embedmill raises on purpose, as one tree.

    EmbedmillError                     exit 1
    ├── SpecError                      2   a spec or an option is wrong: file, line, field, what is allowed
    ├── MissingExtra                   2   an optional dependency is absent; names the pip extra
    │   └── ExtraUnusable                  it is installed, and cannot be imported; says why
    ├── CatalogError                   1   the catalog cannot be read as the spec says
    │   └── CatalogUnavailable         75  its database gives no answer, or it is being written; run again
    ├── ModelError                     1   a model package is incomplete, damaged or does not fit
    │   ├── DeviceUnavailable              the runtime does not know the device, or there is none here
    │   ├── OutOfMemory                    a batch needs more memory than there is; a smaller one may not
    │   ├── ServerDenied               2   the server wants a key, or refuses the one that it got
    │   └── ServerUnavailable          75  the server that has the model gives no answer; run again
    ├── DecodersFailed                 75  no process that decodes images starts; no image is to blame
    ├── StoreError                     1
    │   ├── ObjectMissing                  no object under that key
    │   ├── RunDamaged                     a run's plan or commit record is none that any version wrote
    │   ├── ObjectExists                   a create-if-absent found the key taken
    │   ├── PreconditionFailed             the object changed since it was read
    │   ├── StoreUnavailable           75  no answer, or refused for now; a write may have landed
    │   │   └── OutcomeUnknown             a create got no answer until its deadline; it may yet land
    │   ├── StoreAbsent                    no such bucket, or something else where a folder should be
    │   ├── StoreUnfit                     the store failed the probe: it does not do what releases rest on
    │   ├── StoreFull                  75  no space left; free some and run again
    │   ├── LogGap                         a pipeline's log lacks an entry: what is live cannot be told
    │   └── StoreDenied                    the store may not be written (or read)
    │       └── CredentialsExpired     77  what a worker was given to open it has ended; a new one gets more
    ├── RunError                       1
    │   ├── RunMissing                     no such run, or nothing to resume
    │   ├── RunClosed                  75  somebody closed the run; run again
    │   ├── ShardsMissing              75  shards without a commit record; run `resume`
    │   ├── NumericsMoved              75  this machine would not make the run's vectors; another may
    │   ├── EngineRefused                  what runs worker loops says no, as a cluster without rights
    │   ├── EngineUnavailable          75  what runs worker loops gives no answer; loops may go on
    │   ├── WorkerFailed                   worker processes kept failing
    │   └── AccountingError                read != embedded + reused + empty + quarantined
    ├── ReleaseError                   1
    │   ├── ReleaseMissing                 no such release, or nothing published yet
    │   ├── ReleaseCorrupt                 bytes differ from the manifest; names the file
    │   └── ReleaseIncompatible            the question does not fit the release
    ├── PublishError                   1
    │   ├── PublishLost                75  another run took the log number; plan again
    │   └── PublishUnknown             75  no answer; the next run finds out
    ├── ServingError                   1
    │   ├── ProofFailed                3   what is loaded does not make the vectors of the release
    │   ├── ReleaseMismatch                an answer is from another release or model than was expected
    │   ├── ParityFailed               3   a server is not the release that it should be
    │   ├── RequestRefused                 a request cannot be answered as it is
    │   └── Overloaded                 75  too much is asked for now; ask again
    ├── JenkinsError                   1   Jenkins refuses, or says what cannot be understood
    │   ├── JenkinsGone                    what was asked about was cancelled, or is not there
    │   └── JenkinsUnavailable         75  Jenkins gives no answer, or not in time
    ├── GateFailed                     3   a gate stopped the candidate; the live release is untouched
    ├── Held                           3   a rollback set a hold; `release unhold` lifts it
    └── Yielded                        75  the device was wanted back; the rest is for another attempt

The numbers are process exit codes; a child without one has its parent's. `4` (published, with
quarantined items) and `130` (interrupted at a checkpoint) are outcomes and not errors.
Every message says what was found and where; `hint` says what to do.
"""

from __future__ import annotations

from typing import ClassVar

ERROR = "error: "
"""How the line begins by which a command says what went wrong."""


class EmbedmillError(Exception):
    """Root of the tree: a message for people, a stable `code` for programs, a `hint` on what to do."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def code(self) -> str:
        """Stable name for programs, for example `SpecError`."""
        return type(self).__name__

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class SpecError(EmbedmillError):
    """A spec file or option is wrong; the message names file, line or field."""

    exit_code = 2


class MissingExtra(EmbedmillError):
    """An optional dependency is not installed."""

    exit_code = 2

    def __init__(self, what: str, *, extra: str) -> None:
        super().__init__(f"{what} is not installed", hint=f"pip install 'embedmill[{extra}]'")
        self.extra = extra


class ExtraUnusable(MissingExtra):
    """An optional dependency is installed, and cannot be imported."""

    def __init__(self, what: str, why: str, *, extra: str) -> None:
        hint = f"it lacks a part of 'embedmill[{extra}]', is damaged, or is not for this machine"
        EmbedmillError.__init__(self, f"{what} cannot be imported: {why}", hint=hint)
        self.extra = extra


class CatalogError(EmbedmillError):
    """The catalog cannot be read as the spec says."""


class CatalogUnavailable(CatalogError):
    """The catalog cannot be read now: its database gives no answer, or somebody is writing it."""

    exit_code = 75


class ModelError(EmbedmillError):
    """A model package is incomplete, damaged, or does not fit what was asked of it."""


class DeviceUnavailable(ModelError):
    """A runtime cannot compute on the device that was asked for."""


class OutOfMemory(ModelError):
    """What computes got no memory for a batch: of this process, this machine or the device."""


class ServerDenied(ModelError):
    """The server that has the model lets this caller ask nothing; that says nothing of what it has."""

    exit_code = 2


class ServerUnavailable(ModelError):
    """The server that has the model gives no answer for now, or is not the one that it was."""

    exit_code = 75


class DecodersFailed(EmbedmillError):
    """No process that decodes images can be started; no image is to blame."""

    exit_code = 75


class StoreError(EmbedmillError):
    """The store did not do what was asked."""


class ObjectMissing(StoreError):
    """No object under that key."""


class RunDamaged(StoreError):
    """A document of `run` is no JSON, or without a schema: no version of Embedmill wrote it so."""

    def __init__(self, message: str, *, run: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.run = run


class ObjectExists(StoreError):
    """A create-if-absent found the key taken."""


class PreconditionFailed(StoreError):
    """The object is not the one that the caller read."""


class StoreUnavailable(StoreError):
    """The store gave no answer, or refused for now (429, 5xx, reset, timeout).

    A read may be repeated. A write may have landed, may land later, or never. `unreachable`: there was no
    connection, so that the address may be wrong.
    """

    exit_code = 75

    def __init__(self, message: str, *, hint: str = "", unreachable: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.unreachable = unreachable


class OutcomeUnknown(StoreUnavailable):
    """A create-if-absent got no answer until its deadline: nobody may conclude that it failed."""


class StoreAbsent(StoreError):
    """There is no such store: its bucket does not exist, or no folder can be where it should be."""


class StoreUnfit(StoreError):
    """The store does not do what releases rest on, such as creating an object once."""


class StoreFull(StoreError):
    """No space left where the store writes."""

    exit_code = 75


class LogGap(StoreError):
    """A pipeline's log lacks an entry, and a later one is there: what is live cannot be told."""


class StoreDenied(StoreError):
    """The store refused access."""


class CredentialsExpired(StoreDenied):
    """Credentials that end have ended: with new ones it works."""

    exit_code = 77


class RunError(EmbedmillError):
    """A run cannot go on."""


class RunMissing(RunError):
    """No such run, or none to resume."""


class RunClosed(RunError):
    """The run was closed meanwhile: nothing can come of it any more."""

    exit_code = 75


class ShardsMissing(RunError):
    """Some shards have no commit record yet."""

    exit_code = 75


class NumericsMoved(RunError):
    """What is installed here makes other vectors than the run has; another machine may go on."""

    exit_code = 75


class EngineRefused(RunError):
    """What runs worker loops says no: the message has its words."""


class EngineUnavailable(RunError):
    """What runs worker loops gives no answer: those that run go on."""

    exit_code = 75


class WorkerFailed(RunError):
    """Worker processes kept failing; the message has the last one's words."""


class AccountingError(RunError):
    """Items were lost or doubled: nothing may be published."""


class ReleaseError(EmbedmillError):
    """A release cannot be used."""


class ReleaseMissing(ReleaseError):
    """No such release."""


class ReleaseCorrupt(ReleaseError):
    """A file of the release is not what its manifest says."""


class ReleaseIncompatible(ReleaseError):
    """The release cannot answer that kind of question."""


class PublishError(EmbedmillError):
    """The candidate did not go live."""


class PublishLost(PublishError):
    """Another run took the log number."""

    exit_code = 75


class PublishUnknown(PublishError):
    """The store gave no answer; the entry may or may not exist."""

    exit_code = 75


class ServingError(EmbedmillError):
    """A server does not answer."""


class ProofFailed(ServingError):
    """What is loaded does not make the vectors of the release: it must not be served."""

    exit_code = 3


class ReleaseMismatch(ServingError):
    """An answer is from another release, or another model, than was expected."""


class ParityFailed(ServingError):
    """A running server is not the release that it was compared with."""

    exit_code = 3


class RequestRefused(ServingError):
    """A request cannot be answered as it is.

    `status` is its HTTP status, `param` what of it is to blame, `reason` the limit that it met.
    """

    def __init__(
        self, message: str, *, hint: str = "", status: int = 400, param: str | None = None, reason: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.param = param
        self.reason = reason


class Overloaded(ServingError):
    """Too much is asked of a server for now; `retry_after_s` says when to ask again.

    `status` is 429 where there is too much, and 503 where the server itself is at fault; `reason` names the
    limit that was met, for counters.
    """

    exit_code = 75

    def __init__(
        self,
        message: str,
        *,
        hint: str = "ask again later",
        retry_after_s: int = 1,
        status: int = 429,
        reason: str = "queue",
    ) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s
        self.status = status
        self.reason = reason


class JenkinsError(EmbedmillError):
    """Jenkins refuses what was asked, or says what cannot be understood; the message has its status."""


class JenkinsGone(JenkinsError):
    """Jenkins says that what was asked about was cancelled, or is not there."""


class JenkinsUnavailable(JenkinsError):
    """Jenkins gives no answer, or what was waited for did not happen in time."""

    exit_code = 75


class GateFailed(EmbedmillError):
    """A gate stopped the candidate."""

    exit_code = 3


class Held(EmbedmillError):
    """A rollback set a hold on publishing."""

    exit_code = 3


class Yielded(EmbedmillError):
    """The worker gave its device back."""

    exit_code = 75
