"""Miniature dataset made from one public-domain portrait, to try the pipeline without a download.

    photograph ──► portraits ──► scenes (motion, light, background) ──► forgeries ──► encoder ──► tree of a real dataset

    recoloured      the photograph in other colours                       photograph.py
    draw_portrait   identity → a face, its landmarks and regions          portraits.py
    plan_motion     position and expression of the head, frame by frame   motion.py
    Scene           footage, frame by frame                               scenes.py
    MANIPULATIONS   the four forgeries, as simple image operations        forgeries.py
    VideoWriter     H.264 with equal bytes for equal frames               encoder.py
    write_clip      the files of one clip and its forgeries               clips.py
    LAYOUTS         the files of a FaceForensics++ or Celeb-DF tree       tree.py
    write_miniature the whole dataset                                     write.py

Only `write_miniature` is public; the rest of faceshards imports nothing else from here.
"""

from manifests.miniature.write import MiniatureSummary, write_miniature

__all__ = ["MiniatureSummary", "write_miniature"]
