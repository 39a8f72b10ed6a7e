"""Which parameters belong together.

Enters: a model. Leaves: its parameters by what they are to the optimizers, and by the part of the model to a reader.
"""

from collections.abc import Iterator

from torch import Tensor, nn

from groundup.model import Transformer


def parameter_groups(model: Transformer) -> dict[str, list[Tensor]]:
    """Every trainable parameter of ``model`` once, as embedding, head, vectors, matrices or routers.

    A matrix that embedding and head share is the embedding's. What has one axis is a vector, and so are scales of the
    stream; routers are matrices that choose, and so few rows that they are no business of Muon's.
    """
    groups: dict[str, list[Tensor]] = {name: [] for name in ("embedding", "head", "vectors", "matrices", "routers")}
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    for name, parameter in _trainable(model):
        if parameter.ndim < 2 or name == "stream_scales":
            group = "vectors"
        elif id(parameter) in tables:
            group = "embedding"
        elif name == "head.weight":
            group = "head"
        else:
            group = "routers" if name.endswith("router.weight") else "matrices"
        groups[group].append(parameter)
    return groups


def _trainable(model: Transformer) -> Iterator[tuple[str, Tensor]]:
    return ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)


def group_of(parameter_name: str) -> str:
    """The part of the model that a parameter is of, by its name.

    One of embedding, attention, feed_forward, norms, head, routers, other.
    """
    modules = parameter_name.split(".")[:-1]
    if any(module.endswith("norm") for module in modules):
        return "norms"
    if any(module.endswith("embedding") for module in modules):
        return "embedding"
    for module, group in _PARTS.items():
        if module in modules:
            return group
    return "other"


#: Modules and their groups, the inner ones first.
_PARTS = {"router": "routers", "attention": "attention", "feed_forward": "feed_forward", "head": "head"}
