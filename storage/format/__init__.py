"""Byte format of a record: header, arrays, encoded images."""
