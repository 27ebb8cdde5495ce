"""A skip in CI is a failure, unless it is listed with a reason."""

from __future__ import annotations

import pytest

TESTS = """
    import pytest

    def test_passes(): pass

    @pytest.mark.parametrize("device", ["gpu"])
    def test_skips(device): pytest.skip("no such device")

    @pytest.mark.skip(reason="not today")
    def test_is_marked(): pass

    @pytest.mark.xfail
    def test_is_expected_to_fail(): assert False
"""


@pytest.fixture(autouse=True)
def ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")


def run(pytester: pytest.Pytester, *, allowed: str = "", tests: str = TESTS) -> pytest.RunResult:
    pytester.makepyfile(test_things=tests)
    pytester.mkdir("tests").joinpath("allowed_skips.txt").write_text(allowed)
    return pytester.runpytest_inprocess("-p", "tests.support.skips")


def test_an_unlisted_skip_fails_in_ci_and_says_why_it_was_skipped(pytester: pytest.Pytester) -> None:
    result = run(pytester)
    result.assert_outcomes(passed=1, failed=1, errors=1, xfailed=1)
    result.stdout.fnmatch_lines(["test_things.py::test_skips[[]gpu[]]: Skipped: no such device; CI allows*"])


def test_outside_ci_a_skip_is_a_skip(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI")
    run(pytester).assert_outcomes(passed=1, skipped=2, xfailed=1)


def test_a_listed_skip_is_allowed_with_or_without_its_parameters(pytester: pytest.Pytester) -> None:
    listed = "# why\n\ntest_things.py::test_skips # no device\ntest_things.py::test_is_marked # a reason\n"
    run(pytester, allowed=listed).assert_outcomes(passed=1, skipped=2, xfailed=1)


def test_a_module_that_skips_itself_fails_in_ci(pytester: pytest.Pytester) -> None:
    result = run(pytester, tests="import pytest\npytest.importorskip('no_such_library')")
    assert result.ret != pytest.ExitCode.OK
    result.assert_outcomes(errors=1)


def test_a_listed_skip_without_a_reason_is_refused_with_its_line(pytester: pytest.Pytester) -> None:
    result = run(pytester, allowed="# why\ntest_things.py::test_skips\n")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*allowed_skips.txt:2: 'test_things.py::test_skips' has no reason*"])
