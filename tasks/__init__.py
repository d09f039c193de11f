"""The stages that process one video: pure functions and classes on arrays. Only `tasks.process` knows Prefect."""
