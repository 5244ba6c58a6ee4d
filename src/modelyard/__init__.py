"""Modelyard: any model becomes a governed network service.

```python
version = modelyard.publish(forest, name="churn", sample=table)
model = modelyard.load("churn@champion")
answers = modelyard.Client("http://127.0.0.1:8080").predict("churn", table)
```
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["AsyncClient", "Client", "LocalModel", "Yard", "__version__", "load", "publish"]

if TYPE_CHECKING:
    from modelyard.client import AsyncClient, Client
    from modelyard.local import LocalModel
    from modelyard.shortcuts import load, publish
    from modelyard.yard import Yard

_HOMES = {
    "AsyncClient": "modelyard.client",
    "Client": "modelyard.client",
    "LocalModel": "modelyard.local",
    "Yard": "modelyard.yard",
    "load": "modelyard.shortcuts",
    "publish": "modelyard.shortcuts",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import modelyard` costs nothing."""
    module = _HOMES.get(name)
    if module is None:
        raise AttributeError(f"module 'modelyard' has no attribute '{name}'")
    from importlib import import_module

    value = getattr(import_module(module), name)
    globals()[name] = value
    return value
