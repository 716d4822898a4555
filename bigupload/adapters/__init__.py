"""Other libraries' uploads, made by bigupload: each adapter keeps the other's names, arguments and exceptions.

An adapter translates, and everything ends in `Uploader`: none has a retry, a resume or a proof of its own. Each is a
module that is named as the library it is for, and that imports it. So nothing here is imported by `import bigupload`,
and `background` is what they share.
"""
