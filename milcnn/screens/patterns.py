"""Names of image files, as microscopes and their programs write them.

A pattern is a regular expression for the end of a path, from the start of a file's or folder's name; upper and lower
case are the same. Groups: ``well``, or ``row`` and ``col`` from 1; where the name tells it ``plate``, ``site``,
``channel``, ``z``, ``time``, and ``prefix``, which is the plate where a folder has several. A name fits one pattern
only. ``tests/screens/test_patterns.py`` has real names of each.
"""

WELL, SHORT_WELL = r"(?P<well>A?[A-Z]\d\d)", r"(?P<well>[A-P]\d{1,2})"
GUID = r"(?:[\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12})"
STAIN = r"(?:phase|green|red|orange|blue|nir|bright ?field)[a-z]*|[PGRN]"  # channels of Incucyte
INCUCYTE_TIME = r"(?P<time>\d\dd\d\dh\d\dm|\d{4}y\d\dm\d\dd_\d\dh\d\dm)"
AFTER_WELL = r"--P(?P<site>\d+)(?=(?:.*--Z(?P<z>\d+))?)(?=(?:.*--T(?P<time>\d+))?)(?:--[ZT]\d+)*--(?P<channel>[^/]+?)"
STEMS = {
    "phenix": r"(?:(?P<plate>[^/]+?)__[^/]+/(?:Images/)?)?(?P<well>r\d\dc\d\d)f(?P<site>\d+)p(?P<z>\d+)"
    r"(?:-ch|rc)(?P<channel>\d+)(?:-ch\d+)?(?:sk|t)(?P<time>\d+)(?:fk\d+fl\d+)?",
    "columbus": r"(?P<row>\d{3})(?P<col>\d{3})-(?P<site>\d+)-(?P<time>\d{3})(?P<z>\d{3})(?P<channel>\d{3})",
    "imagexpress": rf"(?=TimePoint|.*(?:_[sw]\d|{GUID}))(?:TimePoint_(?P<time>\d+)/)?"
    rf"(?:(?:ZStep_|[^/]*_z_)(?P<z>\d+)/)?(?:(?P<prefix>[^/]*)_)?{WELL}(?:_s(?P<site>\d+))?(?:_w(?P<channel>\d))?(?:{GUID}|_\[{GUID}\])?",
    "imagexpress_ai": rf"(?:[^/]*_)?t(?P<time>\d+)_{WELL}_s(?P<site>\d+)_w(?P<channel>\d+)_z(?P<z>\d+)",
    "yokogawa": rf"[^/]+_{WELL}_T(?P<time>\d+)F(?P<site>\d+)L\d+A\d+Z(?P<z>\d+)C(?P<channel>\d+)",
    "yokogawa_cq1": r"W(?P<well>\d+)F(?P<site>\d+)T(?P<time>\d+)Z(?P<z>\d+)C(?P<channel>\d+)",
    "incell": r"(?:(?P<plate>[^/]+)_)?(?P<well>[A-Z]{1,2} - \d+)\(fld (?P<site>\d+)(?: wv (?P<channel>[^/]+?))?"
    r"(?: wix \d+)?(?: z (?P<z>\d+))?(?:[ -]*time (?P<time>\d+) - \d+ ?ms)?\)",
    "incell_long": r"(?P<well>[A-P]_\d+)_f(?P<site>\d+)_c(?P<channel>\d+)_x[^/]*_m[^/]*_z(?P<z>\d+)_t(?P<time>\d+)",
    "incucyte": rf"(?=(?:(?:.*[/_-])?(?P<channel>{STAIN})[/_-])?)(?:(?:{STAIN})/)?(?:(?P<plate>[^/]+?)[_-]+)??"
    rf"(?:(?:{STAIN})_+)?{SHORT_WELL}_(?P<site>\d+)_{INCUCYTE_TIME}",
    "incucyte_raw": rf"(?P<time>\d{{4}}/\d\d/\d{{4}})/(?P<plate>\d+)/{SHORT_WELL}-(?P<site>\d+)-(?P<channel>\w+)",
    "scanr": rf"(?![A-P]\d{{1,2}}--W)(?:(?P<plate>[^/]+?)(?:--[^/]*)?)?--W(?P<well>\d+){AFTER_WELL}",
    "scanr_wells": rf"{SHORT_WELL}--W\d+{AFTER_WELL}",
    "cellomics": rf"(?!.*_[RDM]_p\d)(?:(?P<plate>[^/]*?)(?:_|i\dt(?P<time>\d+)))?{WELL}f(?P<site>\d+)d(?P<channel>\d)",
    "evos": rf"[^/]+_[RDM]_p(?P<time>\d+)(?:_z(?P<z>\d+))?_\d+_{WELL}f(?P<site>\d+)d(?P<channel>\d)",
    "cytation": rf"{SHORT_WELL}_-?\d+_\d+_(?P<site>\d+)(?:Z(?P<z>\d+))?_(?P<channel>[^/]+)_(?P<time>\d{{3}})",
    "gen5": rf"{SHORT_WELL}_(?P<site>\d+)(?:Z(?P<z>\d+))?_(?P<channel>[^/]+)_\d+_(?P<time>\d{{3}})_(?:-?\d+)?",
    "nikon_jobs": rf"(?:[^/]*_)?Well{SHORT_WELL}(?:_Point[^/_]+_(?P<site>\d+))?_Channel(?P<channel>[^/]+)_Seq\d+",
    "leica_navigator": rf"(?P<plate>TileScan[^/]*?)_{SHORT_WELL}(?:-(?P<site>\d+))?(?:_t(?P<time>\d+))?"
    r"(?:_z(?P<z>\d+))?_ch(?P<channel>\d+)",
}
PATTERNS = {name: rf"(?:{stem})(?:\.ome)?\.(?:tiff?|png)" for name, stem in STEMS.items()}
NOT_FIELDS = {  # what is found in a path: why the file is no field
    r"_thumb[^/]*$": "a thumbnail",
    r"(^|/)(\.|__MACOSX/)": "a hidden file",
    r"(^|/)(DC_|SC_BP)[^/]*$|(^|[/_-])(illum(?!ina[_-]|\w*correct)|flat_?field)[^/]*$": "a correction of illumination",
    r"[_-](cp_)?(masks?|labels?|outlines?|overlays?|segmented\w*)\.\w+$": "outlines or masks of objects",
    r"\.(c01|dib|nd2|czi|lif|lsm|vsi|mvd2|stk|ims|jpe?g|jp2|jxl|bmp)$": "a kind of image that is not read",
}
