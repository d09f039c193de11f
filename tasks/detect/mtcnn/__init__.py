"""MTCNN, with the boxes of facenet-pytorch."""
