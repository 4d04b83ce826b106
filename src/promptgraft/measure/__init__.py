"""How well a source prompt should transfer to a target: one file a measure, behind one contract."""
