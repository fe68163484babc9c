"""The base class for the settings of every backbone, including those of other packages.

A backbone is one settings class and one module. The settings class declares all that the rest of the system
must know of the backbone. A class that lacks a declaration, or makes a wrong one, cannot be defined.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self, get_args, get_origin

from mmgnn_dist.config.section import ConfigSection


class BackboneConfig(ConfigSection):
    """Settings of a backbone; a subclass has a key `name: Literal["mine"] = "mine"` besides its own keys.

    Attributes:
        module: `module:Class` of the network; the class takes the settings as its only argument.
        cost_rate: operations per second of a training step, relative to the language model's in float32
            (`tests/benchmarks/balance.py` measures it). Only the ratio between text and graph matters, and
            only for models that read both.
        widths: keys of whole numbers, or of tuples of them, that `width_matched` multiplies.
        has_vectors: whether the atoms carry vectors that turn with the molecule.
        reads_state: whether it reads charge and multiplicity, by `Backbone.with_state`.
        dropouts: keys of dropout probabilities, which `train.dropout=false` sets to zero.
    """

    module: ClassVar[str]
    cost_rate: ClassVar[float]
    widths: ClassVar[tuple[str, ...]]
    has_vectors: ClassVar[bool] = False
    reads_state: ClassVar[bool] = False
    dropouts: ClassVar[tuple[str, ...]] = ()

    name: str

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse a class that lacks a declaration or makes a wrong one.

        Raises:
            TypeError: if the class is refused; says why.
        """
        super().__pydantic_init_subclass__(**kwargs)
        for attribute in ("module", "cost_rate", "widths"):
            if not hasattr(cls, attribute):
                raise TypeError(f"{cls.__name__} has no class variable '{attribute}'")
        if cls.module.count(":") != 1:
            raise TypeError(f"{cls.__name__}.module='{cls.module}': write package.module:Class")
        if not cls.cost_rate > 0:
            raise TypeError(f"{cls.__name__}.cost_rate={cls.cost_rate} must be above 0")
        name = cls.model_fields["name"]
        if get_origin(name.annotation) is not Literal or get_args(name.annotation) != (name.default,):
            raise TypeError(f'{cls.__name__} needs a key of the form  name: Literal["mine"] = "mine"')
        wrong = [key for key in cls.widths if not _is_width(cls, key)]
        wrong += [key for key in cls.dropouts if key not in cls.model_fields]
        if wrong or not cls.widths:
            raise TypeError(
                f"{cls.__name__}.widths and .dropouts: {', '.join(wrong) or 'no width'} is none of its keys "
                f"with whole numbers, or with a probability: {', '.join(cls.model_fields)}"
            )

    def without_dropout(self) -> Self:
        """Return the same settings with every dropout at zero."""
        return self.model_copy(update=dict.fromkeys(self.dropouts, 0.0))


def _is_width(kind: type[BackboneConfig], key: str) -> bool:
    field = kind.model_fields.get(key)
    return field is not None and (field.annotation is int or get_origin(field.annotation) is tuple)
