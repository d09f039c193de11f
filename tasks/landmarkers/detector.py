"""The five landmarks that the face detector gives with each box."""

from __future__ import annotations

from tasks.media import FaceTrack, FrameBatch


class DetectorLandmarks:
    """Keeps the track's own landmarks: K = 5, eyes, nose and mouth corners as seen in the image."""

    def place(self, frames: FrameBatch, track: FaceTrack) -> FaceTrack:
        """Return the rows of the track that `frames` covers, unchanged."""
        return track.rows_at(frames.frame_indices)
