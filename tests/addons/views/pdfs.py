"""Writes small PDF documents (ISO 32000-1), as plainly as the format allows."""

import zlib


def pdf(*pages: str, info: str = "", packed: bool = True, field: str = "", note: str = "", link: str = "",
        attached: tuple[str, bytes] | None = None, encrypt: str = "") -> bytes:
    """Return a document with these lines of text as pages, in Latin-1."""
    objects: dict[int, bytes] = {3: b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"}
    notes = [f"<< /Type /Annot /Subtype /Text /Rect [9 9 9 9] /Contents ({note}) >>"] * bool(note)
    notes += [f"<< /Type /Annot /Subtype /Link /Rect [9 9 9 9] /A << /S /URI /URI ({link}) >> >>"] * bool(link)
    notes += ["4 0 R"] * bool(field)
    objects[4] = f"<< /Type /Annot /Subtype /Widget /FT /Tx /T (a) /V ({field}) /Rect [9 9 99 99] >>".encode()
    kids = []
    for text in pages:
        number = 10 + 2 * len(kids)
        kids.append(f"{number} 0 R")
        content = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode("latin-1")
        content = zlib.compress(content) if packed else content
        objects[number] = (f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {number + 1} 0 R "
                           f"/Annots [{' '.join(notes)}] /Resources << /Font << /F1 3 0 R >> >> >>").encode()
        objects[number + 1] = stream(content, "/Filter /FlateDecode" if packed else "")
    names = ""
    if attached:
        objects[5] = f"<< /Type /Filespec /F ({attached[0]}) /UF ({attached[0]}) /EF << /F 6 0 R >> >>".encode()
        objects[6] = stream(zlib.compress(attached[1]), "/Type /EmbeddedFile /Filter /FlateDecode")
        names = f"/Names << /EmbeddedFiles << /Names [({attached[0]}) 5 0 R] >> >>"
    form = "/AcroForm << /Fields [4 0 R] >>" if field else ""
    objects[1] = f"<< /Type /Catalog /Pages 2 0 R {form} {names} >>".encode()
    objects[2] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>".encode()
    objects[7] = f"<< /Title ({info}) >>".encode()
    return file(objects, f"/Root 1 0 R /Info 7 0 R {encrypt}")


def stream(data: bytes, about: str) -> bytes:
    return f"<< /Length {len(data)} {about} >>\nstream\n".encode() + data + b"\nendstream"


def file(objects: dict[int, bytes], trailer: str) -> bytes:
    """Lay the objects out and write where they are."""
    out, where = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", {}
    for number in sorted(objects):
        where[number] = len(out)
        out += f"{number} 0 obj\n".encode() + objects[number] + b"\nendobj\n"
    table = "".join(f"{n} 1\n{at:010} 00000 n \n" for n, at in where.items())
    return out + (f"xref\n0 1\n0000000000 65535 f \n{table}trailer\n<< /Size {max(objects) + 1} {trailer} >>\n"
                  f"startxref\n{len(out)}\n%%EOF\n").encode()
