"""Plan of a miniature dataset's files: small trees in the layouts of FaceForensics++ and Celeb-DF v2.

    ffpp       <root>/original_sequences/youtube/c23/videos/NNN.mp4
               <root>/manipulated_sequences/<manipulation>/{c23,masks}/videos/<target>_<source>.mp4
    celeb_df   <root>/Celeb-real/idA_KKKK.mp4, <root>/YouTube-real/NNNNN.mp4,
               <root>/Celeb-synthesis/idA_idB_KKKK.mp4, <root>/List_of_testing_videos.txt

The name of a fake begins with the footage; the donor of the face follows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath

from manifests.errors import ConfigError
from manifests.indexing import MAKER
from manifests.miniature.forgeries import MANIPULATIONS

GENERATOR_VERSION = 1  # raised when the same parameters give other pictures
MAX_PAIRS = 500  # FaceForensics++ names its originals with three digits
LEAST_SECONDS, MOST_SECONDS = 0.2, 60.0
CELEB_DF_LIST = "List_of_testing_videos.txt"
CELEB_DF_COMPONENTS = 3  # groups of identities that no fake connects, as in the real dataset
CELEB_DF_SMALL_COMPONENT = 0.15  # share of the pairs in each group but the first
CELEB_DF_CLIPS = 2  # clips of each identity
LISTED_EVERY = 5  # the list of test videos names every fifth file, and leaks like the real list


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Parameters of a miniature: equal parameters give equal datasets.

    Raises:
        ConfigError: a parameter is out of range.
    """

    layout: str = "ffpp"
    """A key of `LAYOUTS`."""

    num_pairs: int = 20
    """Pairs of people whose faces are swapped in each other's footage."""

    seconds: tuple[float, float] = (2.0, 4.0)
    """Shortest and longest footage, seconds."""

    seed: int = 0
    """Seed of all random numbers."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.layout not in LAYOUTS:
            raise ConfigError(f"layout of the sample: got {self.layout!r}, expected one of {', '.join(LAYOUTS)}")
        if not 1 <= self.num_pairs <= MAX_PAIRS:
            raise ConfigError(f"pairs of the sample: got {self.num_pairs}, expected 1..{MAX_PAIRS}")
        shortest, longest = self.seconds
        if not LEAST_SECONDS <= shortest <= longest <= MOST_SECONDS:
            raise ConfigError(
                f"seconds of the sample: got {shortest} to {longest}, expected the shortest length first, "
                f"both within {LEAST_SECONDS}..{MOST_SECONDS}"
            )
        if self.seed < 0:
            raise ConfigError(f"seed of the sample: got {self.seed}, expected 0 or more")

    def as_json(self) -> dict[str, object]:
        """Return the content of the file that identifies a miniature, by which it can be completed later."""
        return {
            "made_by": MAKER,
            "generator_version": GENERATOR_VERSION,
            **asdict(self),
            "seconds": [float(length) for length in self.seconds],
        }


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ClipId:
    """The name of one piece of footage."""

    identity: int
    """The person."""

    take: int = 0
    """0 for the person's first clip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FakePlan:
    """One forgery of a clip."""

    manipulation: str
    """A key of `MANIPULATIONS`."""

    donor: ClipId
    """The footage with the face or the expression that is used."""

    path: str
    """POSIX, relative to the root."""

    mask_path: str | None = None
    """POSIX, relative to the root; None where the dataset has no masks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipPlan:
    """One piece of footage and the fakes made from it."""

    clip: ClipId
    """The footage."""

    path: str
    """POSIX, relative to the root."""

    fakes: tuple[FakePlan, ...] = ()
    """Fakes made from the footage, ordered by path."""

    @property
    def video_paths(self) -> list[str]:
        """The footage and its forgeries."""
        return [self.path, *(fake.path for fake in self.fakes)]

    @property
    def mask_paths(self) -> list[str]:
        """The masks of the forgeries."""
        return [fake.mask_path for fake in self.fakes if fake.mask_path is not None]


def plan_ffpp(parameters: Parameters) -> list[ClipPlan]:
    """Return plans of both directions of every pair of neighbours: 000 with 001, 002 with 003 and so on."""
    plans = []
    for target in range(2 * parameters.num_pairs):
        donor = target ^ 1  # the other one of the pair
        fakes = tuple(
            FakePlan(
                manipulation=manipulation,
                donor=ClipId(identity=donor),
                path=f"manipulated_sequences/{manipulation}/c23/videos/{target:03d}_{donor:03d}.mp4",
                mask_path=f"manipulated_sequences/{manipulation}/masks/videos/{target:03d}_{donor:03d}.mp4",
            )
            for manipulation in MANIPULATIONS
        )
        path = f"original_sequences/youtube/c23/videos/{target:03d}.mp4"
        plans.append(ClipPlan(clip=ClipId(identity=target), path=path, fakes=fakes))
    return plans


def plan_celeb_df(parameters: Parameters) -> list[ClipPlan]:
    """Return plans of chains of people who swap faces with their neighbours, and of as many unknown people as pairs."""
    neighbours: dict[int, list[int]] = {}
    first = 0
    for num_pairs in _component_sizes(parameters.num_pairs):
        for left in range(first, first + num_pairs):
            neighbours.setdefault(left, []).append(left + 1)
            neighbours.setdefault(left + 1, []).append(left)
        first += num_pairs + 1
    plans = []
    for target, donors in sorted(neighbours.items()):
        for take in range(CELEB_DF_CLIPS):
            # The takes alternate between the neighbours, so that each ordered pair is one fake.
            fakes = tuple(
                FakePlan(
                    manipulation="Deepfakes",
                    donor=ClipId(identity=donor),
                    path=f"Celeb-synthesis/id{target}_id{donor}_{take:04d}.mp4",
                )
                for turn, donor in enumerate(donors)
                if turn % CELEB_DF_CLIPS == take
            )
            path = f"Celeb-real/id{target}_{take:04d}.mp4"
            plans.append(ClipPlan(clip=ClipId(identity=target, take=take), path=path, fakes=fakes))
    plans += [
        ClipPlan(clip=ClipId(identity=first + number), path=f"YouTube-real/{number:05d}.mp4")
        for number in range(parameters.num_pairs)
    ]
    return plans


def celeb_df_list(plans: list[ClipPlan]) -> str:
    """Return the list of testing videos: 1 = real and 0 = fake, without a newline at its end, as in the real one."""
    paths = sorted(path for plan in plans for path in plan.video_paths)
    lines = []
    for folder, label in (("YouTube-real", 1), ("Celeb-synthesis", 0), ("Celeb-real", 1)):
        within = [path for path in paths if PurePosixPath(path).parts[0] == folder]
        lines += [f"{label} {path}" for path in within[::LISTED_EVERY]]
    return "\n".join(lines)


def _component_sizes(num_pairs: int) -> list[int]:
    """Return the number of pairs in each group of identities, the largest first."""
    num_components = min(CELEB_DF_COMPONENTS, num_pairs)
    small = max(1, round(CELEB_DF_SMALL_COMPONENT * num_pairs))
    return [num_pairs - small * (num_components - 1)] + [small] * (num_components - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One layout in which a miniature can be written."""

    title: str
    """Name of the real dataset."""

    forgeries: str
    """Description of the fakes, for the README in the dataset's folder."""

    plan: Callable[[Parameters], list[ClipPlan]]
    """Returns the plans of all clips."""

    lists: Callable[[list[ClipPlan]], dict[str, str]] = lambda _plans: {}
    """Returns name → text of the lists in the root."""


LAYOUTS: dict[str, Layout] = {
    "ffpp": Layout(
        title="FaceForensics++",
        plan=plan_ffpp,
        forgeries="""\
  Deepfakes        the donor's inner face, coarse, close to the target's colours, with a soft edge
  Face2Face        the target's own lower face, moved by the donor's expression
  FaceSwap         the donor's face cut out and pasted, with a hard edge; ends before the footage does
  NeuralTextures   the target's own mouth, smoothed and moved
The masks are white where a fake may differ from its footage.
""",
    ),
    "celeb_df": Layout(
        title="Celeb-DF v2",
        plan=plan_celeb_df,
        lists=lambda plans: {CELEB_DF_LIST: celeb_df_list(plans)},
        forgeries=f"""\
  Celeb-synthesis  the donor's inner face, coarse, close to the target's colours, with a soft edge
{CELEB_DF_LIST} names one file in five, whatever it shares with the others: like the real list, it leaks.
""",
    ),
}
