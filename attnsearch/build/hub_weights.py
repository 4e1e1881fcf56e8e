"""Weights by a public name, `timm:resnet18.a1_in1k` or `hf-hub:timm/resnet18.a1_in1k`, fetched into the hub's cache.

Both need the extra `timm`, which brings the hub's own client; what is fetched is a file like any other from then on.
"""

from __future__ import annotations

import difflib
from typing import Any

from attnsearch.core.checks import CHOICE, is_public
from attnsearch.core.errors import EnvironmentFault, UsageError
from attnsearch.core.normalisation import CONVENTIONS

FILES = (
    "model.safetensors",
    "pytorch_model.bin",
)  # as the hub's own libraries name weights, the first that is there


def fetched(name: str) -> str:
    """The file of a public name; any other name as it is.

    Raises:
        EnvironmentFault: the extra is missing, or the hub cannot be reached and the file is not in its cache.
        UsageError: there is no such model, or it has no weights on the hub.
    """
    if not is_public(name):
        return name
    name, marked, choice = name.partition(CHOICE)
    kind, _, model = name.partition(":")
    repository = model if kind == "hf-hub" else _on_hub(name, model)
    client = _imported("huggingface_hub", name)
    errors = _imported("huggingface_hub.errors", name)
    for file in FILES:
        try:
            return f"{client.hf_hub_download(repository, file)}{marked}{choice}"
        except errors.LocalEntryNotFoundError:
            raise _unreachable(name) from None
        except errors.EntryNotFoundError:
            continue
        except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
            raise UsageError(f"{name}: {_first_line(error)}") from None
        except Exception as error:  # of the network, in the words of whichever library speaks to it
            raise _unreachable(name, _first_line(error)) from None
    raise UsageError(f"{name}: {repository} has none of {', '.join(FILES)} on the hub")


def normalisation(name: str) -> str:
    """Mean and standard deviation that a model of timm was trained with, as `core.normalisation` reads them.

    Empty where the name says nothing of it.
    """
    name = name.partition(CHOICE)[0]
    if not name.startswith("timm:"):
        return ""
    config = _config(name, name.removeprefix("timm:"))
    own = tuple(config.mean), tuple(config.std)
    word = next((word for word, known in CONVENTIONS.items() if known == own), "")
    return word or "/".join(",".join(map(str, values)) for values in own)


def _on_hub(name: str, model: str) -> str:
    config = _config(name, model)
    if not config.hf_hub_id:
        raise UsageError(
            f"{name}: timm has its weights elsewhere ({config.url}): fetch that file, and name it"
        )
    return str(config.hf_hub_id)


def _config(name: str, model: str) -> Any:
    """What timm knows of a pretrained model."""
    timm = _imported("timm", name)
    try:
        config = timm.get_pretrained_cfg(model)
    except RuntimeError:  # a tag that the model does not have
        config = None
    if config is None or not (config.hf_hub_id or config.url):
        near = difflib.get_close_matches(model, timm.list_pretrained(), n=1, cutoff=0.6)
        meant = f" Did you mean 'timm:{near[0]}'?" if near else ""
        raise UsageError(f"timm has no pretrained model '{model}'.{meant}")
    return config


def _imported(module: str, name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except Exception as error:  # timm imports torchvision, whose compiled half may be of another torch
        if isinstance(error, ModuleNotFoundError) and error.name == module.partition(".")[0]:
            raise EnvironmentFault(f"{name} needs an extra: pip install 'attnsearch[timm]'") from None
        raise EnvironmentFault(
            f"{name} needs {module}, which cannot be imported: {_first_line(error)}"
        ) from None


def _unreachable(name: str, why: str = "no connection") -> EnvironmentFault:
    return EnvironmentFault(
        f"{name} is not in the cache of the Hugging Face hub, and the hub cannot be reached ({why}). "
        "Fetch the file where there is a network, and name it: --weights FILE"
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


__all__ = ["fetched", "normalisation"]
