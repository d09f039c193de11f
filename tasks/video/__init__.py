"""One video through all stages: frames, faces, geometry, crops, records."""
