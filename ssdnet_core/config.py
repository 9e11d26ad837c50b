"""Every setting of the method, in one validated, described and bounded model.

The same model serves the Python call, the command line, the flow's parameters and ``prefect.yaml``.
It imports neither torch nor numpy, so that a command line can show it at once.
"""

import hashlib
import json
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from ssdnet_core.errors import InvalidConfigError
from ssdnet_core.wrong_settings import no_such_setting, wrong_values

METHOD_VERSION = 21
"""Raised whenever the same configuration gives other maps or regions; part of every fingerprint."""

MAX_GROUP = 256
"""Most images fitted together, far more than keep a GPU busy. Not a setting: results do not depend on the group."""


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    def __init__(self, /, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise InvalidConfigError(wrong_values(error, setting_paths(type(self)))) from error

    # pydantic marks its own __init__ so. Without the mark it would call this one wherever it validates, and report all
    # problems of a group of settings as one problem of one value.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        # As a number, True would be 1.
        values = value if isinstance(value, list | tuple) else [value]
        if cls.model_fields[str(info.field_name)].annotation is not bool and any(isinstance(v, bool) for v in values):
            raise ValueError("this setting is no switch: true and false are not among its values")
        return value


class NetworkConfig(_Settings):
    """The convolutional network whose inductive bias is the model of "normal" (paper: deep image prior)."""

    width: int = Field(
        32,
        ge=8,
        le=256,
        multiple_of=8,
        description="Channels at the finest level; the coarser have twice as many.",
    )
    unshuffle: Literal[1, 2, 4] = Field(
        4,
        description="Side of the pixel block folded into channels at the input: 4 is four times coarser and faster.",
    )


class CorruptionConfig(_Settings):
    """What keeps the network from learning the identity (paper: masking, shuffling, Gaussian noise)."""

    block_sizes: tuple[Annotated[int, Field(ge=4, le=512, multiple_of=4)], ...] = Field(
        (8, 16, 32),
        min_length=1,
        description="Sides of the masked blocks in working pixels, used in turn; those above half a crop are skipped.",
    )
    mask_ratio: float = Field(0.4, gt=0.0, lt=1.0, description="Share of the blocks that is masked.")
    shuffle_ratio: float = Field(
        0.5,
        ge=0.0,
        le=1.0,
        description="Share of the masked blocks filled with patches from elsewhere, not zeros.",
    )
    noise: float = Field(
        0.05,
        ge=0.0,
        le=1.0,
        description="Sigma of the Gaussian noise on the input, in standard deviations of the image.",
    )


class LossConfig(_Settings):
    """Pixel fidelity, and the perceptual loss based on inner-product similarity."""

    masked_weight: float = Field(1.0, gt=0.0, le=10.0, description="Weight of the pixel loss inside masked blocks.")
    visible_weight: float = Field(0.1, ge=0.0, le=10.0, description="Weight of the pixel loss on visible pixels.")
    perceptual_weight: float = Field(
        0.0, ge=0.0, le=10.0, description="Weight of the inner-product perceptual loss; 0 leaves it out."
    )


class FitConfig(_Settings):
    """The optimisation on crops of the one image."""

    steps: int = Field(
        60, ge=0, le=10_000, description="Optimisation steps; 0 fits no network and scores the image by itself."
    )
    crop: int = Field(
        128,
        ge=16,
        le=1024,
        multiple_of=16,
        description="Side of the crops in working pixels; smaller images use less.",
    )
    batch: int = Field(1, ge=1, le=64, description="Crops in a step.")
    learning_rate: float = Field(6e-3, gt=0.0, le=1.0, description="Peak learning rate of the one-cycle schedule.")
    weight_decay: float = Field(1e-4, ge=0.0, le=1.0, description="AdamW's weight decay.")
    warmup: float = Field(0.1, gt=0.0, lt=1.0, description="Share of the steps in which the learning rate rises.")


class ReconstructionConfig(_Settings):
    """Blind reconstruction: each pixel is predicted from a context in which its own block is masked."""

    block: int = Field(16, ge=4, le=256, multiple_of=4, description="Side of the masked block in working pixels.")
    shifts: Literal[1, 2, 4] = Field(
        2,
        description="Placements of the block grid, moved along its diagonal; each pixel is predicted that many times.",
    )
    tile: int = Field(
        1024,
        ge=384,
        le=8192,
        multiple_of=32,
        description="Side in working pixels of the tiles in which a larger image is reconstructed, a strip in longer "
        "ones of as many pixels: bounds the memory. Blocks above 32 may need larger tiles.",
    )
    border_cost: bool = Field(
        True,
        description="Scale residuals near the border down by how much worse predictions are at borders made inside the "
        "image.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.block % self.shifts:
            raise ValueError(f"block {self.block} is no multiple of shifts {self.shifts}: change one of them")
        return self


class ScoreConfig(_Settings):
    """Weights of the four score components in the anomaly map, and what sharpens it; 0 leaves one out."""

    local_energy: float = Field(3.0, ge=0.0, le=100.0, description="Weight of the local filter energy.")
    local_colour: float = Field(0.75, ge=0.0, le=100.0, description="Weight of the local mean colour.")
    residual_pattern: float = Field(0.8, ge=0.0, le=100.0, description="Weight of the residual's unusual patterns.")
    inner_product: float = Field(1.0, ge=0.0, le=100.0, description="Weight of image-prediction dissimilarity.")
    likeness: float = Field(
        1.0,
        ge=0.0,
        le=10.0,
        description="How far the map is lowered where the image looks like the surface, raised where like the defect.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.local_energy == self.local_colour == self.residual_pattern == self.inner_product == 0:
            raise ValueError("all four score weights are 0: give at least one of them a positive weight")
        return self


class VerdictConfig(_Settings):
    """From an anomaly map to a verdict, without labels."""

    expected_false_alarms: float = Field(
        0.1, ge=1e-100, le=100.0, description="Expected number of false alarms in an image without defects."
    )
    share_of_peak: float = Field(
        0.4,
        ge=0.0,
        le=1.0,
        description="A region ends at this share of the anomaly map's highest value in it, or at the alarm level, "
        "whichever is higher.",
    )
    min_area: int = Field(1, ge=1, description="Smallest region in pixels of the original image.")
    min_further_area: int = Field(
        25,
        ge=1,
        description="Smallest area in working pixels of any region but the one with the highest peak; smoothing "
        "spreads a single pixel over 25.",
    )


class Config(_Settings):
    """Settings of one localization.

    ``Config()`` is the preset that measures best; ``Config.preset("paper")`` has every ingredient of the
    paper's abstract on. Single settings are changed by dotted names: ``Config().updated({"fit.steps": 50})``.

    Raises
    ------
    InvalidConfigError
        Naming each wrong setting, its value and what is allowed; a group of settings made by itself raises it, too.
        pydantic's own constructors, such as ``model_validate``, raise pydantic's ``ValidationError``.
    """

    working_size: int = Field(
        256,
        ge=32,
        le=8192,
        description="The image's short side is brought down to this many pixels; never enlarged.",
    )
    border: float = Field(
        0.0, ge=0.0, le=0.45, description="Share of the height and width left out along each side of the image."
    )
    leave_out_frame: bool = Field(
        True,
        description="Leave out what is beside the surface: blank ground, and strips along the border, as a dark edge.",
    )
    selvage: float = Field(
        0.0,
        ge=0.0,
        le=0.5,
        description="Share of the short side that is left out along blank ground, too, as a selvage or fringe.",
    )
    weaken_noise: bool = Field(
        True, description="Weaken white noise, as of a sensor in little light, where it is much of what varies."
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of everything random in the fit.")
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:(0|[1-9]\d?))?)$",
        description="auto, cpu, mps or cuda; in Python cuda:N.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Arithmetic of the network; auto takes bfloat16 on CUDA from compute capability 8.0, and on x86 "
        "with AVX512-BF16 or AMX; else float32.",
    )
    network: NetworkConfig = Field(default_factory=NetworkConfig, description="The network.")
    corruption: CorruptionConfig = Field(default_factory=CorruptionConfig, description="The input's corruption.")
    loss: LossConfig = Field(default_factory=LossConfig, description="The losses.")
    fit: FitConfig = Field(default_factory=FitConfig, description="The optimisation.")
    reconstruction: ReconstructionConfig = Field(
        default_factory=ReconstructionConfig, description="The blind reconstruction."
    )
    score: ScoreConfig = Field(default_factory=ScoreConfig, description="The anomaly map's components.")
    verdict: VerdictConfig = Field(default_factory=VerdictConfig, description="The verdict.")

    @classmethod
    def preset(cls, name: str) -> "Config":
        """Return a named configuration: ``default``, ``fast``, ``paper`` or ``preview``.

        Raises
        ------
        InvalidConfigError
            If there is no such preset.
        """
        if name not in PRESETS:
            raise InvalidConfigError(f"there is no preset {name!r}: choose one of {', '.join(PRESETS)}")
        return cls().updated(PRESETS[name])

    def updated(self, changes: dict[str, Any]) -> "Config":
        """Return a copy with the settings named by dotted paths changed, checked like any other.

        Parameters
        ----------
        changes
            For example ``{"fit.steps": 50, "verdict.expected_false_alarms": 0.01}``. Strings are converted, but
            several values need a list.

        Raises
        ------
        InvalidConfigError
            If a path names no setting, or a value is out of its range.
        """
        tree = self.model_dump()
        for path, value in changes.items():
            *parents, leaf = path.split(".")
            node: Any = tree
            for parent in parents:
                node = node.get(parent) if isinstance(node, dict) else None
            if not isinstance(node, dict) or leaf not in node:
                raise InvalidConfigError(no_such_setting(path, setting_paths()))
            if isinstance(node[leaf], dict):
                # As a whole it would set the others of the group back to their defaults.
                raise InvalidConfigError(
                    f"{path} = {value!r}: this is a group of settings, and none itself: change them one by one, as "
                    f"{path}.{next(iter(node[leaf]))}"
                )
            node[leaf] = value
        return parse_config(tree)

    def fingerprint(self) -> str:
        """Return 12 hexadecimal digits that change whenever the maps or verdicts could.

        The device is left out: a night moved from one machine to another is not another night.
        """
        settings = self.model_dump(mode="json", exclude={"device"})
        text = json.dumps({"method": METHOD_VERSION, **settings}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "fast": {"fit.steps": 40},
    "paper": {"loss.perceptual_weight": 0.5},
    "preview": {"fit.steps": 0, "score.inner_product": 0.0},
}
"""Named configurations, as changes to the defaults.

``fast`` misses more under noise (docs/METHOD.md). A preview is no SSDnet: statistics of the image, no network.
"""


def parse_config(settings: dict[str, Any]) -> Config:
    """Build a :class:`Config` from nested dictionaries, as read from YAML or JSON.

    Raises
    ------
    InvalidConfigError
        Naming each wrong setting, its value and what is allowed.
    """
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        raise InvalidConfigError(wrong_values(error, setting_paths())) from error


def setting_paths(model: type[BaseModel] = Config, prefix: str = "") -> list[str]:
    """Return the dotted paths of all single settings, in their order of definition."""
    paths: list[str] = []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            paths += setting_paths(field.annotation, f"{prefix}{name}.")
        else:
            paths.append(prefix + name)
    return paths
