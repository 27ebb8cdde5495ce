"""Programs that are real workers but for one thing, which takes its time."""

SLOWLY = """
import sys, time
from embedmill.cli import main
from embedmill.runtimes.onnx import OnnxRuntime
run = OnnxRuntime.run
def run_slowly(runtime, feeds):
    time.sleep(0.5)
    return run(runtime, feeds)
OnnxRuntime.run = run_slowly
sys.exit(main(sys.argv[1:]))
"""
"""A worker that is at one shard for more than half a minute after it began, however fast its machine is."""
SLOW_STORE = """
import sys, time
from embedmill.store.local import LocalStore
get = LocalStore.get
def hang(store, key):
    if key.endswith("plan.json"):
        return get(store, key)
    print("hanging", flush=True)
    time.sleep(600)
LocalStore.list = lambda *_: hang(*_)
from embedmill.cli import main
main()
"""
"""One that hangs once it has read its plan."""
