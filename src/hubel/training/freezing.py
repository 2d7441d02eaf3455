"""Which layer groups of a network train when it starts from weights.

The groups are counted from the head down: head, last stage, ..., first stage, stem.

Sources: Yosinski et al., "How transferable are features in deep neural networks?", NIPS 2014 (frozen layers); Howard &
Ruder, "Universal Language Model Fine-tuning", ACL 2018, sections 3.2 (rates by layer) and 3.3 (gradual unfreezing).
"""

from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from hubel.errors import UsageError
from hubel.recipe import Recipe


def layer_groups(model: nn.Module) -> list[list[nn.Module]]:
    """Split a network into layer groups, from the head down. Whatever is neither stem nor stage belongs to the head.

    Raises:
        UsageError: the network is not made of stem, stages and head.
    """
    children = dict(model.named_children())
    lacking = [name for name in ("stem", "stages", "head") if name not in children]
    if lacking:
        raise UsageError(
            f"the network has no {' and no '.join(lacking)}, so that unfreeze=all is the only choice, without "
            f"layer_decay; give its class the children stem, stages and head"
        )
    body = [children["stem"], *children["stages"].children()]
    return [
        [child for name, child in children.items() if name not in ("stem", "stages")],
        *([part] for part in body[::-1]),
    ]


def needs_layer_groups(recipe: Recipe) -> bool:
    """Tell whether a recipe treats layer groups differently."""
    return recipe.unfreeze not in (None, "all") or recipe.layer_decay is not None


def num_trained(recipe: Recipe, count: int, epoch: int) -> int:
    """Return how many of `count` layer groups train in an epoch, counted from the head.

    Args:
        recipe: settled. With unfreeze=gradual the head trains alone at first, and the other groups join it at equal
            distances during the first half of the epochs.
        count: layer groups of the network.
        epoch: from 0.

    Raises:
        UsageError: more stages than there are.

    >>> gradual = Recipe(weights="resnet18", unfreeze="gradual", epochs=10)
    >>> [num_trained(gradual, 6, epoch) for epoch in range(7)]
    [1, 2, 3, 4, 5, 6, 6]
    """
    match recipe.unfreeze:
        case None | "all":
            return count
        case "head":
            return 1
        case "gradual":
            assert recipe.epochs is not None
            return 1 + min(count - 1, 2 * epoch * (count - 1) // recipe.epochs)
        case stages:
            if int(stages) > count - 2:
                raise UsageError(
                    f"unfreeze={stages}: the network has {count - 2} stages; use a smaller number, or unfreeze=all"
                )
            return 1 + int(stages)


class Freezing:
    """Keeps layer groups of a network as they are: no gradient, no dropout, and batch norm by its running statistics.

    Args:
        model: the network.
        recipe: settled.

    Raises:
        UsageError: the recipe treats layer groups differently, and the network has none, or fewer.
    """

    def __init__(self, model: nn.Module, recipe: Recipe) -> None:
        self.model = model
        self.recipe = recipe
        self.groups = layer_groups(model) if needs_layer_groups(recipe) else [[model]]
        self.num_trained = num_trained(recipe, len(self.groups), 0)
        self.disabled: list[nn.Parameter] = []

    def begin(self, epoch: int) -> bool:
        """Put the network into the training mode of an epoch. Returns whether other groups train than before."""
        before, self.num_trained = self.num_trained, num_trained(self.recipe, len(self.groups), epoch)
        self.thaw()
        self.model.train()
        for module in self.frozen():
            module.eval()
            self.disabled += [parameter for parameter in module.parameters() if parameter.requires_grad]
        for parameter in self.disabled:
            parameter.requires_grad_(False)
        updating = set(self.updating_norms())
        for norm in norms(self.model):
            norm.train(norm in updating)
        return self.num_trained != before

    def thaw(self) -> None:
        """Let the parameters have gradients again that could before."""
        for parameter in self.disabled:
            parameter.requires_grad_(True)
        self.disabled = []

    def frozen(self) -> list[nn.Module]:
        """Return the modules that do not train."""
        return [module for group in self.groups[self.num_trained :] for module in group]

    def updating_norms(self) -> list[_BatchNorm]:
        """Return the batch norms that use and update the statistics of the batch."""
        if self.recipe.freeze_batch_norm == "all":
            return []
        frozen = self.frozen() if self.recipe.freeze_batch_norm != "none" else []
        kept = {norm for module in frozen for norm in norms(module)}
        return [norm for norm in norms(self.model) if norm not in kept]


def norms(model: nn.Module) -> Iterator[_BatchNorm]:
    """Iterate over the batch norms of a network."""
    return (module for module in model.modules() if isinstance(module, _BatchNorm))
