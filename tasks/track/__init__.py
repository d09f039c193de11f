"""Face tracks: detections linked over time, and the choice of the main face."""
