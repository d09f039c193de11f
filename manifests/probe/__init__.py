"""Measurements of a video file: container header, frame count, perceptual hashes of frames."""
