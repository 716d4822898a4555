"""Tools of the tests. They import nothing from bigupload, so that they can't share its mistakes."""
