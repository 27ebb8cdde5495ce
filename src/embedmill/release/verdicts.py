"""Where the gates' verdicts lie: beside the run while it is checked, in the release once it is sealed.

A candidate may be checked time and again, by several processes at once: what the last one found lies in
`runs/<run>/` and is replaced. Sealing creates the copy in the release, once; that one is never written again.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from embedmill.errors import ObjectExists, ObjectMissing
from embedmill.release.integrity import read_gates
from embedmill.release.layout import GATES, REPORT, Home
from embedmill.release.quarantined import quarantined_of
from embedmill.release.report import render_report
from embedmill.release.shares import work_of
from embedmill.spec.documents import Gates

if TYPE_CHECKING:
    from collections.abc import Collection

    from embedmill.release.reader import Release
    from embedmill.spec.documents import Content, Verdict

AGREEMENT = "goldens"
"""The gate by which a release shows that its package agrees with its goldens."""
EXAMPLES_OF_EACH = 5
MOST_EXAMPLES = 100


def record_verdicts(home: Home, content: Content, gates: Gates) -> Gates:
    """Write what a check found, and the report; returns what stands: the sealed verdicts if there are any."""
    sealed = _read(home, home.release_key(content.release, GATES))
    if sealed is not None:
        return sealed
    home.store.put(home.run_key(content.release, REPORT), _report(home, content, gates))
    home.store.put(home.run_key(content.release, GATES), gates.to_bytes())
    return gates


def verdicts_on(home: Home, run: str) -> Gates | None:
    """What stands of a run: its sealed verdicts, else those of its last check, else None."""
    return _read(home, home.release_key(run, GATES)) or _read(home, home.run_key(run, GATES))


def publishable_verdicts(home: Home, run: str, gates: Collection[str]) -> Gates | None:
    """What a run may be published by: its sealed verdicts, else those of a last check by all of `gates`.

    None where there is none: an older version may have checked it, which had fewer gates.
    """
    sealed = _read(home, home.release_key(run, GATES))
    last = sealed or _read(home, home.run_key(run, GATES))
    if last is None or sealed is not None:
        return sealed
    return last if {verdict.gate for verdict in last.verdicts}.issuperset(gates) else None


def agreement_shown(release: Release | None, package_digest: str) -> Verdict | None:
    """The verdict by which a release showed that this very package agrees with its goldens, all of it.

    None where it did not: an older version may have made it, or a machine that could not compute an encoder.
    """
    if release is None or release.content.package_digest != package_digest:
        return None
    verdicts = read_gates(release.folder).verdicts
    return next((v for v in verdicts if v.gate == AGREEMENT and v.passed and v.found is not None), None)


def seal_verdicts(home: Home, content: Content, gates: Gates) -> Gates:
    """Create verdicts and report in the release, or read the ones that are there."""
    sealed = home.create(home.release_key(content.release, GATES), gates)
    with suppress(ObjectExists):
        home.store.put_if_absent(home.release_key(content.release, REPORT), _report(home, content, sealed))
    return sealed


def _report(home: Home, content: Content, gates: Gates) -> bytes:
    lacking = quarantined_of(home, content, most=MOST_EXAMPLES, of_each=EXAMPLES_OF_EACH)
    return render_report(content, gates, work_of(home, content.release), lacking)


def _read(home: Home, key: str) -> Gates | None:
    try:
        return home.read(Gates, key)
    except ObjectMissing:
        return None
