"""The texts inside a message, however they are wrapped, found while the message streams.

Theory of operation.  A `Tree` is fed with a body whose Content-Encoding is off.  Its root is a `View`, a stream of
bytes with a path; every view is heard by who wants to (`Hear`) and read by *readers*, which open views inside it:
the parts of a multipart body, the entries of an archive, a text without its escapes, a run of base64 decoded.  So what
a filter looks for stands in some view as it is, wherever it was, and the path says how to get there:
`body > multipart[1] > zip:a.docx > text`.

Which readers a view gets is said by `choosing`, from what it is declared to be and from its first bytes.  Readers know
their view and nothing else.  Depth, number of views and bytes are bounded by the tree's `Budget`; what is beyond, or
cannot be read, is `Unscannable`, told to whoever hears, and never silent.
"""

from addons.views.tree import Hear, Listener, Reader, Tree, View

__all__ = ["Hear", "Listener", "Reader", "Tree", "View"]
