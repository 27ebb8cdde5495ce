"""Processes in which a library is another version that computes otherwise: what an upgrade is to Embedmill.

The library is the real one, changed when it is imported. So every process of a command has it, and the code
that is tested knows nothing of it.
"""

from __future__ import annotations

from pathlib import Path

CHANGED_ON_IMPORT = """\
import importlib.metadata, importlib.util, sys

class Changed:
    \"\"\"Imports {module} as it is, then changes it.\"\"\"

    def find_spec(self, name, path=None, target=None):
        if name != {module!r}:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module
        spec.loader.exec_module = lambda module: (execute(module), change(module))[0]
        return spec

sys.meta_path.insert(0, Changed())

"""

RUNTIME = """\
def change(onnxruntime):
    import numpy

    class Upgraded(onnxruntime.InferenceSession):
        def run(self, outputs, feeds, options=None):
            computed = super().run(outputs, feeds, options)
            return [each + {shift} * numpy.sin(numpy.arange(each.size)).reshape(each.shape).astype(each.dtype)
                    for each in computed]

    onnxruntime.__version__ = {version!r}
    onnxruntime.InferenceSession = Upgraded
"""

PILLOW = """\
def change(Image):
    class Upgraded:
        resize = Image.Image.resize

    def resize(self, *arguments, **options):
        return Upgraded.resize(self, *arguments, **options).point(lambda value: 255 if value > 127 else 0)

    Image.Image.resize = resize

version = importlib.metadata.version
importlib.metadata.version = lambda name: {version!r} if name == "pillow" else version(name)
"""


def onnxruntime(folder: Path, version: str, *, shift: float) -> dict[str, str]:
    """The environment of a process that has this version, whose outputs are off by up to `shift`."""
    return _changed(folder, "onnxruntime", RUNTIME.format(version=version, shift=shift))


def pillow(folder: Path, version: str) -> dict[str, str]:
    """The environment of a process that has this version, which makes what it resizes black and white."""
    return _changed(folder, "PIL.Image", PILLOW.format(version=version))


def _changed(folder: Path, module: str, change: str) -> dict[str, str]:
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(CHANGED_ON_IMPORT.format(module=module) + change)
    return {"PYTHONPATH": str(folder)}
