"""The four manipulations: they alter the face, and nothing but the face."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from manifests.miniature.clips import make_scene, repaint_for
from manifests.miniature.fields import sample, spread
from manifests.miniature.forgeries import MANIPULATIONS, Repaint, forge
from manifests.miniature.motion import plan_motion, portrait_positions
from manifests.miniature.portraits import draw_portrait
from manifests.miniature.scenes import Scene
from manifests.miniature.tree import ClipPlan, Parameters, plan_ffpp

PARAMETERS = Parameters(num_pairs=2, seconds=(1.0, 1.2), seed=0)
# Mean absolute difference inside the mask, grey levels, averaged over a clip. The least of 40 clips of the default
# dataset were 8.8, 4.5, 13.0 and 6.0.
LEAST_DIFFERENCE = {"Deepfakes": 6.0, "Face2Face": 3.0, "FaceSwap": 9.0, "NeuralTextures": 4.0}


@pytest.fixture(scope="module")
def forged_clips() -> list[tuple[ClipPlan, Scene, dict[str, Repaint]]]:
    clips = []
    for plan in plan_ffpp(PARAMETERS):
        scene = make_scene(plan.clip, PARAMETERS)
        repaints = {fake.manipulation: repaint_for(fake, plan.clip, scene, PARAMETERS) for fake in plan.fakes}
        clips.append((plan, scene, repaints))
    return clips


@pytest.mark.parametrize("manipulation", MANIPULATIONS)
def test_outside_of_the_mask_not_a_byte_changes_and_inside_it_the_face_does(
    manipulation: str, forged_clips: list[tuple[ClipPlan, Scene, dict[str, Repaint]]]
) -> None:
    for _, scene, repaints in forged_clips:
        differences = []
        for index in range(0, len(repaints[manipulation].poses), 4):
            frame = scene.render(index)
            forged, mask = forge(frame, index, scene, repaints[manipulation])
            assert set(np.unique(mask)) == {0, 255}
            np.testing.assert_array_equal(forged[mask == 0], frame.rgb[mask == 0])
            differences.append(np.abs(forged[mask == 255].astype(float) - frame.rgb[mask == 255]).mean())
            # The mask is about the mouth, where every one of the four paints, and is no larger than a face.
            nose = np.abs(frame.positions - scene.portrait.landmarks[2]).sum(axis=-1)
            face_px = 110 * frame.pose.scale
            rows, columns = np.nonzero(mask)
            row, column = np.unravel_index(nose.argmin(), nose.shape)
            assert np.hypot(rows - row, columns - column).max() < face_px
        assert np.mean(differences) > LEAST_DIFFERENCE[manipulation]


def test_drawing_only_the_cells_that_show_the_face_is_drawing_all_of_it(
    forged_clips: list[tuple[ClipPlan, Scene, dict[str, Repaint]]],
) -> None:
    for _, scene, repaints in forged_clips[:2]:
        for repaint in repaints.values():
            index = len(repaint.poses) // 2
            frame = scene.render(index)
            _, mask = forge(frame, index, scene, repaint)
            positions = spread(portrait_positions(scene.cells_xy, repaint.poses[index], scene.portrait.landmarks))
            everywhere = sample(repaint.rgba[..., 3], positions, cv2.INTER_LINEAR)
            np.testing.assert_array_equal(mask > 0, everywhere > 0)


def test_a_face_outside_of_the_frame_leaves_it_alone() -> None:
    portrait = draw_portrait(0, 0)
    rng = np.random.default_rng(0)
    poses = plan_motion(rng, 1, (320, 240), 1.0, -5.0)  # the hair begins five frames above the frame
    scene = Scene(portrait, poses, (320, 240), rng)
    repaint = MANIPULATIONS["FaceSwap"](scene, draw_portrait(1, 0), poses, rng)
    frame = scene.render(0)
    forged, mask = forge(frame, 0, scene, repaint)
    np.testing.assert_array_equal(forged, frame.rgb)
    assert not mask.any()


def test_lengths_are_those_of_the_real_dataset(
    forged_clips: list[tuple[ClipPlan, Scene, dict[str, Repaint]]],
) -> None:
    for _, scene, repaints in forged_clips:
        for manipulation in ("Deepfakes", "Face2Face", "NeuralTextures"):
            assert len(repaints[manipulation].poses) == len(scene)
        assert 0.75 * len(scene) < len(repaints["FaceSwap"].poses) < len(scene)


def test_face2face_follows_the_donor_and_face_swap_the_target(
    forged_clips: list[tuple[ClipPlan, Scene, dict[str, Repaint]]],
) -> None:
    (_, target, repaints), (_, donor, _) = forged_clips[:2]
    shared = range(min(len(target), len(donor)))
    driven = [repaints["Face2Face"].poses[index].jaw for index in shared]
    assert np.corrcoef(driven, [donor.poses[index].jaw for index in shared])[0, 1] == pytest.approx(1)
    swapped = repaints["FaceSwap"].poses
    assert swapped == target.poses[: len(swapped)]


def test_deepfakes_and_neural_textures_are_smoother_than_the_footage(
    forged_clips: list[tuple[ClipPlan, Scene, dict[str, Repaint]]],
) -> None:
    def detail(rgb: np.ndarray, mask: np.ndarray) -> float:
        inside = cv2.erode(mask, np.ones((5, 5), np.uint8)) > 0
        return float(np.abs(cv2.Laplacian(rgb.astype(np.float32), cv2.CV_32F)[inside]).mean())

    for manipulation in ("Deepfakes", "NeuralTextures"):
        ratios = []
        for _, scene, repaints in forged_clips:
            frame = scene.render(0)
            forged, mask = forge(frame, 0, scene, repaints[manipulation])
            ratios.append(detail(forged, mask) / detail(frame.rgb, mask))
        assert np.mean(ratios) < 0.85


def test_the_donor_is_recognisable_in_a_face_swap_and_the_target_in_face2face(
    forged_clips: list[tuple[ClipPlan, Scene, dict[str, Repaint]]],
) -> None:
    # In the target's own portrait pixels: Face2Face's texture is the target's, FaceSwap's is not.
    _, scene, repaints = forged_clips[0]
    own = scene.portrait.rgb.astype(float)
    differences = {}
    for manipulation in ("Face2Face", "FaceSwap"):
        opaque = repaints[manipulation].rgba[..., 3] == 255
        differences[manipulation] = np.abs(repaints[manipulation].rgba[opaque][:, :3] - own[opaque]).mean()
    assert differences["Face2Face"] < differences["FaceSwap"] / 3
