"""Long runs: any number of rows in, answers out as they come (`stream`), and a ledger that survives being killed.

`keys` says which row and task an answer belongs to, `ledger` keeps answers in a file, `sources` reads rows from
whatever a user has them in, `stream` keeps a classifier busy with them, `rows` says what comes out. Users come here by
`classifier.astream_rows`.
"""

from langchain_stormtrooper.runs.ledger import Ledger as Ledger
from langchain_stormtrooper.runs.rows import ClassifiedRow as ClassifiedRow
