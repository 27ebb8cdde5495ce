"""Marked tests have a few seeds, with --soak many; a soak goes on where it ended."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = """
    import pytest
    from pathlib import Path

    def test_plain(): pass

    @pytest.mark.soak(quick=2, large=5)
    def test_seeded(seed):
        assert seed != 3 or not Path("broken").exists()

    @pytest.mark.soak
    def test_long(): pass
"""


@pytest.fixture(autouse=True)
def files(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_things=TESTS)


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    """In a process of its own, since a soak loads another hypothesis profile."""
    return pytester.runpytest_subprocess("-p", "tests.support.soak", *options)


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setenv("PYTHONPATH", str(request.config.rootpath))


def test_without_soak_a_marked_test_has_few_seeds_and_long_ones_stay_out(
    pytester: pytest.Pytester,
) -> None:
    run(pytester).assert_outcomes(passed=3, deselected=1)


def test_a_soak_runs_marked_tests_alone_with_all_their_seeds(pytester: pytest.Pytester) -> None:
    run(pytester, "--soak").assert_outcomes(passed=6, deselected=1)


def test_a_soak_that_failed_runs_again_only_what_has_not_passed(pytester: pytest.Pytester) -> None:
    Path("broken").touch()
    run(pytester, "--soak").assert_outcomes(passed=5, failed=1, deselected=1)
    Path("broken").unlink()
    run(pytester, "--soak").assert_outcomes(passed=1, deselected=6)


def test_a_finished_soak_is_a_success_when_it_is_run_again(pytester: pytest.Pytester) -> None:
    run(pytester, "--soak")
    again = run(pytester, "--soak")
    again.assert_outcomes(deselected=7)
    assert again.ret == pytest.ExitCode.OK


def test_a_soak_without_soak_tests_is_not_a_success(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_things="def test_plain(): pass")
    assert run(pytester, "--soak").ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_changed_code_starts_the_soak_anew(pytester: pytest.Pytester) -> None:
    run(pytester, "--soak")
    pytester.mkdir("src").joinpath("code.py").write_text("changed = True")
    run(pytester, "--soak").assert_outcomes(passed=6, deselected=1)


def test_when_its_time_is_over_a_soak_ends_with_75_and_the_next_goes_on(pytester: pytest.Pytester) -> None:
    slow = "import pytest, time\n@pytest.mark.soak(quick=1, large=4)\ndef test_slow(seed): time.sleep(0.5)"
    pytester.makepyfile(test_things=slow)
    part = run(pytester, "--soak", "--soak-minutes=0.015")
    assert part.ret == 75
    passed = part.parseoutcomes()["passed"]
    assert passed < 4
    part.stdout.fnmatch_lines([f"*the time is over, {4 - passed} tests are left: run it again*"])
    rest = run(pytester, "--soak")
    rest.assert_outcomes(passed=4 - passed, deselected=passed)
    assert rest.ret == pytest.ExitCode.OK


def test_a_failure_is_not_hidden_by_the_end_of_the_time(pytester: pytest.Pytester) -> None:
    failing = (
        "import pytest, time\n@pytest.mark.soak(quick=1, large=9)\ndef test_x(seed): assert time.sleep(0.5)"
    )
    pytester.makepyfile(test_things=failing)
    assert run(pytester, "--soak", "--soak-minutes=0.015").ret == pytest.ExitCode.TESTS_FAILED
