"""Other backbones than a job's own, which read some members of its model; each is loaded once."""

from __future__ import annotations

from functools import cache

from promptgraft.errors import ArtefactError
from promptgraft.model.backbone import Backbone
from promptgraft.model.load import load_backbone
from promptgraft.model.places import place_of
from promptgraft.prompt.card import BackboneCard


@cache
def other_backbone(name: str) -> Backbone:
    """The model of a name, in its fastest arithmetic.

    Raises:
        ModelError: it is unknown or not here.
    """
    return load_backbone(name, dtype="auto")


def backbone_of(card: BackboneCard, where: str) -> Backbone:
    """The model that an artefact names.

    Raises:
        ModelError: it is unknown or not here.
        ArtefactError: the one of that name has other weights.
    """
    backbone = other_backbone(str(place_of(card.fingerprint) or card.name))
    if backbone.fingerprint != card.fingerprint:
        what = f"a part of it was made with other weights than those of {card.name} here"
        raise ArtefactError(what, where=where, do="put the model back that it was made with, or graft anew")
    return backbone
