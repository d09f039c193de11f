"""A miniature dataset from one public-domain portrait, so that the pipeline can be tried without a download.

    photograph ──► portraits ──► scenes (motion, light, background) ──► forgeries ──► encoder ──► tree of a real dataset

    recoloured      the photograph, in other colours                      photograph.py
    draw_portrait   identity → a face, its landmarks and regions          portraits.py
    plan_motion     where the head is and what the face does              motion.py
    Scene           footage, frame by frame                               scenes.py
    MANIPULATIONS   the four forgeries, as simple image operations        forgeries.py
    VideoWriter     H.264, the same bytes for the same frames             encoder.py
    write_clip      one clip and its forgeries, from plan to files        clips.py
    LAYOUTS         which files a FaceForensics++ or Celeb-DF tree has    tree.py
    write_miniature the whole dataset                                     write.py

Only `write_miniature` is for others; nothing else of faceshards imports anything from here.
"""

from manifests.miniature.write import MiniatureSummary, write_miniature

__all__ = ["MiniatureSummary", "write_miniature"]
