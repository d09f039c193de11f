"""WHAT is done to one video: pure stages on arrays, one stage a file; only `tasks.process` knows Prefect."""
