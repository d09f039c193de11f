"""Download of datasets: connections, resumable files, archives."""
