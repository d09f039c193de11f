"""Worker processes: the pool, devices, the GPU service, deadlines."""
