"""M7: what is kept of results is bounded, and goes when its time is over."""

from corral.api import Tool
from corral_gateway.tools.freshness import Freshness, freshness_of
from corral_gateway.tools.result_cache import ResultCache

TOOL = Tool.model_validate(
    {
        "apiVersion": "corral.dev/v1alpha1",
        "kind": "Tool",
        "metadata": {"name": "x"},
        "spec": {"description": "x", "cacheTTL": "10s", "idempotent": True, "run": {"builtin": "calculator"}},
    }
)


def test_M7_a_result_goes_when_its_time_is_over() -> None:
    cache = ResultCache(1 << 20)
    cache.put(b"k", TOOL, 42, "uid", now=100)
    assert (found := cache.get(b"k", 109.9)) is not None
    assert (found.output, found.task_uid) == ("42", "uid")
    assert cache.get(b"k", 110) is None
    assert cache.size_bytes == 0


def test_M7_no_more_is_kept_than_the_bytes_say_and_the_least_used_goes_first() -> None:
    cache = ResultCache(100_000)
    for number in range(1000):
        cache.put(b"%d" % number, TOOL, "x" * 1000, "uid", now=0)
        assert cache.get(b"0", 0) is not None
        assert cache.size_bytes <= 100_000
    assert cache.get(b"1", 0) is None
    assert cache.get(b"999", 0) is not None
    cache.put(b"large", TOOL, "x" * 50_000, "uid", now=0)
    assert cache.get(b"large", 0) is None
    assert cache.get(b"0", 0) is not None


def test_M7_what_a_request_says_of_freshness_is_heeded() -> None:
    for header, expected in {
        None: Freshness(),
        "": Freshness(),
        "no-cache": Freshness(0),
        "No-Cache, max-age=5": Freshness(0),
        "max-age=5": Freshness(5),
        "max-age=x, max-stale": Freshness(),
        "no-store": Freshness(0, may_store=False),
    }.items():
        assert freshness_of(header) == expected, header
