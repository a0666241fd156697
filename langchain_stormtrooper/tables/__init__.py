"""Files of rows: CSV, JSON lines and Parquet, read and written row by row, so that a file may be larger than memory.

`records` says what a row of a file is, `lines` decodes text, `csv_files`, `json_files` and `parquet_files` know one
format each, `formats` tells them apart by ending, `answers` names the columns that answers go to, and `classifying`
is what users call: `classify_file`. `batches` and `columns` are the same for engines that hold the rows themselves.
Only `parquet_files` needs pyarrow, and imports it when a file is opened.
"""
