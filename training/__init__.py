"""Training and evaluation of deepfake detectors on stores."""

import os

# OpenMP reads it when torch is imported. Threads that wait for work would otherwise keep the cores busy that other
# processes need: on two shared cores M2TR-small made 58 to 100 training steps in 25 s with it, and 2 to 9 without it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
