"""Any number of labels for a text: a yes/no question for each label, or one question about all.

`runnable` is what users create, `detailed` what `with_details()` makes of it; `asking` asks about each label after the
text, `once` about all at once; `thresholds` says from which probability on a label applies (pure), `learning` fits that
to labelled texts.
"""

from langchain_stormtrooper.multi_label.detailed import DetailedMultiLabelClassifier
from langchain_stormtrooper.multi_label.runnable import MultiLabelClassifier
from langchain_stormtrooper.multi_label.thresholds import LabelThreshold, MultiLabelEvidence

__all__ = ["DetailedMultiLabelClassifier", "LabelThreshold", "MultiLabelClassifier", "MultiLabelEvidence"]
