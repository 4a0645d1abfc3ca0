"""Names of files that microscopes wrote, as public repositories and pages show them, and what each of them tells.

A source is a repository and a file or thread in it, a public data set, or a manual. Some numbers are changed, so that
no two parts of a name have the same.
"""

import re
from itertools import product

import pytest

from milcnn.columns import PLATE, SITE, TIME, WELL, Z
from milcnn.screens.folders import folder_table
from milcnn.screens.names import well_name
from milcnn.screens.patterns import NOT_FIELDS, PATTERNS
from milcnn.screens.problems import ScreenError

KEY = [PLATE, WELL, SITE, Z, TIME]
KEYS = ("plate", "well", "site", "channel", "z", "time")
# pattern and source; path: plate | well | site | channel | z | time, with - for what the path does not tell
REAL = {
    ("phenix", "mobie/mobie-viewer-fiji HCSPattern.java"): {
        "r01c01f04p01-ch1sk1fk1fl1.tiff": "- | A01 | 04 | 1 | 01 | 1",
    },
    ("phenix", "Cell Painting Gallery, cpg0016 source_3"): {
        "C13443aW__2021-09-18T06_57_42-Measurement1/Images/r07c21f02p01-ch1sk1fk1fl1.tiff": (
            "C13443aW | G21 | 02 | 1 | 01 | 1"
        ),
    },
    ("phenix", "public parsers of newer Harmony exports"): {
        "55195c81-c4c6-4327-b7fc-b0b50de675b2/images/r03c07/r03c07f01p02-ch03t04.tiff": "- | C07 | 01 | 03 | 02 | 04",
    },
    ("phenix", "HCSAnalyzer, Harmony: rc is the record, one a channel"): {
        "r02c07f01p01rc2-ch1sk1fk1fl1.tiff": "- | B07 | 01 | 2 | 01 | 1",
    },
    ("columbus", "public parsers of Columbus 2.4: row, column - field - time, plane, channel"): {
        "003003-1-001001001.tif": "- | C03 | 1 | 001 | 001 | 001",
        "011001-2-001003004.tif": "- | K01 | 2 | 004 | 003 | 001",
    },
    ("imagexpress", "fmi-faim/faim-ipa resources/ImageXpress"): {
        "2024-04-22/1697/TimePoint_2/1well-3C-2S-Zmix-T_C07_s1_w3A9E4E910-281E-4C24-96FB-36EAFA13348B.tif": (
            "- | C07 | 1 | 3 | - | 2"
        ),
        "Projection-Mix/2023-02-21/1334/ZStep_10/Projection-Mix_E07_s1_w27FF63331-0307-4A31-89AC-B363F8BCED7A.tif": (
            "- | E07 | 1 | 2 | 10 | -"
        ),
        "SingleChannel/2023-02-21/1334/Projection-Mix_E08_s117654C10-92F1-4DFD-98AA-6A01BBD77557.tif": (
            "- | E08 | 1 | - | - | -"
        ),
    },
    ("imagexpress", "fmi-faim/faim-ipa resources/ImageXpress_ZMB/MetaXpress; ZStep_0 is a projection"): {
        "9987_Plate_3433/TimePoint_1/ZStep_0/9987_B02_s1_w2.TIF": "- | B02 | 1 | 2 | 0 | 1",
        "9987_Plate_3420/TimePoint_1/9987_B02.TIF": "- | B02 | - | - | - | 1",
        "TimePoint_1/9987_B02.TIF": "- | B02 | - | - | - | 1",
    },
    ("imagexpress", "idr0005, idr0081: brackets; no site"): {
        "BSF018292-1A_A01_w2.TIF": "- | A01 | - | 2 | - | -",
        "x_A01_s1_[EADF08BD-3BFB-44F3-8214-24B191F3D15C].tif": "- | A01 | 1 | - | - | -",
    },
    ("imagexpress", "BBBC021"): {
        "Week4_27481/G10_s1_w43CD51CBC-2370-471F-BA01-EE250B14B3C8.tif": "- | G10 | 1 | 4 | - | -",
        "Week2_24361/Week2_180607_C11_s2_w174B88ABC-6FC9-4287-83DC-330C8A13263D.tif": "- | C11 | 2 | 1 | - | -",
    },
    ("imagexpress", "BBBC006, a folder a plane"): {
        "BBBC006_v1_images_z_16/mcf-z-stacks-03212011_a01_s1_w1a0cd3f30-ffbe-424c-a330-0a168df372b6.tif": (
            "- | A01 | 1 | 1 | 16 | -"
        ),
    },
    ("imagexpress", "CellProfiler/CellProfiler issue 505: several sites or wavelengths, or one"): {
        "ABCD_A01_w5b71ae91c-75e6-426c-8b41-71a5693784e3.tif": "- | A01 | - | 5 | - | -",
        "ABCD_A01_s1b71ae91c-75e6-426c-8b41-71a5693784e3.tif": "- | A01 | 1 | - | - | -",
    },
    ("imagexpress", "idr0008, recursionpharma/rxrx-datasets"): {
        "Act1_Plate10-SP-A8_A01_s1_w3.TIF": "- | A01 | 1 | 3 | - | -",
        "HUVEC-1/Plate1/M23_s2_w3.png": "- | M23 | 2 | 3 | - | -",
    },
    ("imagexpress_ai", "fractal-uzh-converters, ImageXpress HCS.ai"): {
        "timepoint1/protocol_t1_C05_s0_w0_z2.tif": "- | C05 | 0 | 0 | 2 | 1",
        "t1_A01_s1_w1_z1.tif": "- | A01 | 1 | 1 | 1 | 1",
    },
    ("yokogawa", "fractal-tasks-core test_unit_parse_metadata_from_filename.py"): {
        "AssayPlate_Greiner_#655090_B02_T0001F004L01A01Z01C01.tif": "- | B02 | 004 | 01 | 01 | 0001",
        "20200812-CardiomyocyteDifferentiation14-Cycle1_B03_T0001F036L01A01Z18C01.png": (
            "- | B03 | 036 | 01 | 18 | 0001"
        ),
        "210305NAR005AAN_210416_164828_B11_T0002F006L01A04Z14C03.tif": "- | B11 | 006 | 03 | 14 | 0002",
    },
    ("yokogawa_cq1", "ome/bioformats CellVoyagerReader.java (CV1000), image.sc thread 52615 (CQ1)"): {
        "W1F001T0001Z01C1.tif": "- | 1 | 001 | 1 | 01 | 0001",
        "20200512T002847_2021A/Projection/W0384F0007T0001Z000C4.tif": "- | 384 | 0007 | 4 | 000 | 0001",
    },
    ("incell", "CellProfiler/CellProfiler issue 3725"): {
        "A - 01(fld 2 wv Blue - FITC).tif": "- | A01 | 2 | Blue - FITC | - | -",
        "A - 01(fld 1 wv UV - DAPI z 3 time 2 - 2636ms).tif": "- | A01 | 1 | UV - DAPI | 3 | 2",
        "A - 13(fld 2).tif": "- | A13 | 2 | - | - | -",
    },
    ("incell", "public scripts for IN Cell 2000, 2200 and 6000"): {
        "H - 12(fld 4 z 3- time 50 - 1470000 ms).tif": "- | H12 | 4 | - | 3 | 50",
        "B - 02(fld 01 wv Blue - FITC - time 01 - 0 ms).tif": "- | B02 | 01 | Blue - FITC | - | 01",
        "B - 03(fld 1 wv TL-Brightfield - Cy3 wix 2).tif": "- | B03 | 1 | TL-Brightfield - Cy3 | - | -",
        "F - 001(fld 01 wv TL-Brightfield - DAPI).tif": "- | F01 | 01 | TL-Brightfield - DAPI | - | -",
        "Plate1_HA41_B - 01(fld 01 wv 390 - Blue).tif": "Plate1_HA41 | B01 | 01 | 390 - Blue | - | -",
    },
    ("incell_long", "CellProfiler/CellProfiler issue 3725, version 7.2"): {
        "A_01_f2_c1_xUV_mDAPI_z3_t2.tif": "- | A01 | 2 | 1 | 3 | 2",
    },
    ("incucyte", "mobie/mobie-viewer-fiji HCSPattern.java and public scripts"): {
        "MiaPaCa2-PhaseOriginal_A2_1_03d06h40m.tif": "MiaPaCa2 | A02 | 1 | PhaseOriginal | - | 03d06h40m",
        "VID1282_C6_1_00d06h00m.tif": "VID1282 | C06 | 1 | - | - | 00d06h00m",
        "VID9955_Phase_B3_1_00d00h00m.tif": "VID9955 | B03 | 1 | Phase | - | 00d00h00m",
        "R2_MDF_green_B2_1_00d00h00m.tif": "R2_MDF | B02 | 1 | green | - | 00d00h00m",
        "2101001/A1/field_1/2101001_G_A1_1_04d00h00m.tif": "2101001 | A01 | 1 | G | - | 04d00h00m",
        "phaseContrast_E2_9_2022y04m10d_04h00m.png": "- | E02 | 9 | phaseContrast | - | 2022y04m10d_04h00m",
        "VID1202_B8_1_2021y06m11d_14h00m.png": "VID1202 | B08 | 1 | - | - | 2021y06m11d_14h00m",
        "exp/Phase/DE_A549_B10_6_00d00h00m.tif": "DE_A549 | B10 | 6 | Phase | - | 00d00h00m",
        "red/VID1630_A1_1_00d00h00m.tif": "VID1630 | A01 | 1 | red | - | 00d00h00m",
    },
    ("incucyte_raw", "mobie/mobie-viewer-fiji HCSPatternTest.java, Leiden-Cell-Observatory/OMERO_scripts"): {
        "incu-test-data/2207/19/1110/262/B3-1-C2.tif": "262 | B03 | 1 | C2 | - | 2207/19/1110",
        "EssenFiles/ScanData/2505/16/1124/1248/A1-1-Ph.tif": "1248 | A01 | 1 | Ph | - | 2505/16/1124",
    },
    ("scanr", "Fiji course of EMBL; hmbotelho/htmrenamer; EMBO course 2012"): {
        "0076-14--2006-01-23/data/--W00088--P00001--Z00000--T00000--nucleus-dapi.tif": (
            "- | 88 | 00001 | nucleus-dapi | 00000 | 00000"
        ),
        "demoplate_01--fsk_770_809--5--W0020--P001--T0003--C00.tif": "demoplate_01 | 20 | 001 | C00 | - | 0003",
        "EMBO_course_2012_Plate_son_batch05_01--s449--PLK1--W0081--P001--T00002--Z003--C01.ome.tif": (
            "EMBO_course_2012_Plate_son_batch05_01 | 81 | 001 | C01 | 003 | 00002"
        ),
    },
    ("scanr_wells", "image.sc thread 14872; zenodo record 3362976"): {
        "A1--W00001--P00001--Z00000--T00000--Alexa 488.tif": "- | A01 | 00001 | Alexa 488 | 00000 | 00000",
        "B2--W00026--P00001--Z00000--T00000--dapi.tif": "- | B02 | 00001 | dapi | 00000 | 00000",
    },
    ("cellomics", "BBBC016, BBBC001"): {
        "AS_09047_050428030001_O01f00d2.TIF": "AS_09047_050428030001 | O01 | 00 | 2 | - | -",
        "AS_09125_050118150001_A03f00d0.tif": "AS_09125_050118150001 | A03 | 00 | 0 | - | -",
    },
    ("cellomics", "microscopium/microscopium screens/cellomics.py; user's guide of the ArrayScan VTI"): {
        "MFGTMP_140206180002_A01f00d0.TIF": "MFGTMP_140206180002 | A01 | 00 | 0 | - | -",
        "A01f01d2.TIF": "- | A01 | 01 | 2 | - | -",
        "020506plateruni3t001A01f01d2.TIF": "020506platerun | A01 | 01 | 2 | - | 001",
    },
    ("evos", "user guide of the EVOS M7000; WayScience/nf1_schwann_cell_painting_data"): {
        "scan_R_p2_z1_0_B03f01d0.tif": "- | B03 | 01 | 0 | 1 | 2",
        "Plate_6T/scan_Plate_R_p00_0_A01f00d1.TIF": "- | A01 | 00 | 1 | - | 00",
    },
    ("cytation", "glencoesoftware/bioformats2raw BioTekTest.java"): {
        "A1_01_1_2_Phase Contrast_001.tif": "- | A01 | 2 | Phase Contrast | - | 001",
        "A1_01_3_4_Blue_001.tif": "- | A01 | 4 | Blue | - | 001",
        "A1_-1_1_1_Tsf[Phase Contrast]_001.tif": "- | A01 | 1 | Tsf[Phase Contrast] | - | 001",
        "A1_-2_2_1_Tsf[Stitched[Channel2 500,600]]_001.tif": "- | A01 | 1 | Tsf[Stitched[Channel2 500,600]] | - | 001",
    },
    ("gen5", "glencoesoftware/bioformats2raw BioTekTest.java, older exports"): {
        "P24_1_Bright Field_1_001_02.tif": "- | P24 | 1 | Bright Field | - | 001",
        "A1_1Z3_DAPI_1_001_.tif": "- | A01 | 1 | DAPI | 3 | 001",
        "A1_1_Stitched[AandB_Phase Contrast]_1_001_-1.tif": "- | A01 | 1 | Stitched[AandB_Phase Contrast] | - | 001",
    },
    ("nikon_jobs", "public scripts for NIS-Elements JOBS"): {
        "WellA01_PointA01_0000_ChannelCam-DIA DIC Master Screening_Seq0000.tiff": (
            "- | A01 | 0000 | Cam-DIA DIC Master Screening | - | -"
        ),
        "20201115_184113_906__WellA2_ChannelDAPI_Seq0003.tif": "- | A02 | - | DAPI | - | -",
    },
    ("leica_navigator", "hmbotelho/htmrenamer R/leica.r"): {
        "TileScan 5_A1_ch00.tif": "TileScan 5 | A01 | - | 00 | - | -",
        "TileScan 2_A1-3_t4_z5_ch01.tif": "TileScan 2 | A01 | 3 | 01 | 5 | 4",
    },
}
PATHS = [(pattern, path, told) for (pattern, _), paths in REAL.items() for path, told in paths.items()]
ORDINARY = ["IMG_0001.tif", "a.tif", "fields.tif", "A01.tif", "image_A01_DAPI.tif", "Experiment-12.png", "z1/t2/3.tif"]
CROPS = ["A172_Phase_A7_1_00d00h00m_1.tif", "B1_01_1_1_DAPI_001_illumcorrect.tiff"]  # LIVECell; corrected images


def matches(path: str) -> dict[str, dict]:
    """What each pattern that fits the end of ``path`` tells of it."""
    found = {name: re.compile(f"(?:.*?/)??(?:{text})", re.IGNORECASE) for name, text in PATTERNS.items()}
    return {name: match.groupdict() for name, text in found.items() if (match := text.fullmatch(path))}


@pytest.mark.parametrize(("pattern", "path", "told"), PATHS)
@pytest.mark.parametrize("above", ["", "my plates/of 2026/"])
def test_a_real_name_fits_its_pattern_alone_and_tells_all_it_has(pattern, path, told, above):
    found = matches(above + path)
    assert list(found) == [pattern]
    groups = found[pattern]
    well = groups["well"] if "well" in groups else f"r{groups['row']}c{groups['col']}"
    groups = {key: groups.get(key) or "-" for key in KEYS} | {"well": well_name(well)}
    assert groups == dict(zip(KEYS, told.split(" | "), strict=True))


@pytest.mark.parametrize("well", ["AF48", "P24", "A01"])
def test_wells_of_large_plates(well):
    row, column = well[:-2], well[-2:]
    names = [f"x_{well}_s1_w1.tif", f"x_{well}_T0001F001L01A01Z01C01.tif", f"{row} - {column}(fld 1).tif"]
    for name in [*names, f"x_{well}f00d0.tif"]:
        (groups,) = matches(name).values()
        assert well_name(groups["well"]) == well


def test_each_pattern_has_real_names():
    assert {pattern for pattern, _ in REAL} == set(PATTERNS)


@pytest.mark.parametrize("path", [*ORDINARY, *CROPS])
def test_an_ordinary_name_fits_no_pattern(path):
    assert matches(path) == {}


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("P1/TimePoint_1/MIP_C05_s1_w1_thumb6EFE77C6-B96D-412A-9FD1-710DBDA32821.tif", "a thumbnail"),
        ("P1/._A01_s1_w1.tif", "a hidden file"),
        ("__MACOSX/P1/A01_s1_w1.tif", "a hidden file"),
        ("P1/DC_sCMOS #1_CAM1.tif", "a correction of illumination"),
        ("P1/SC_BP445-45_40x_M10_CH01.tif", "a correction of illumination"),
        ("P1/BR00116991_IllumAGP.tif", "a correction of illumination"),
        ("001_SUM159_AC_A10_1_00d00h00m_cp_masks.tif", "outlines or masks of objects"),
        ("070314_TDS_VSV_50K_P2_1_B02f0d0_SegmentedCells.png", "outlines or masks of objects"),
        ("P1/MFGTMP_140206180002_A01f00d0.C01", "a kind of image that is not read"),
    ],
)
def test_files_that_are_no_fields_have_a_reason(path, reason):
    found = [why for expression, why in NOT_FIELDS.items() if re.search(expression, path, re.IGNORECASE)]
    assert found == [reason]


def test_no_real_name_is_left_out():
    corrected = ["B1_01_1_1_DAPI_001_illumcorrect.tiff", "Illumina_A01_s1_w1.tif", "A1_01_1_1_Darkfield_001.tif"]
    for path in [*corrected, *(path for _, path, _ in PATHS)]:
        assert not [why for expression, why in NOT_FIELDS.items() if re.search(expression, path, re.IGNORECASE)], path


def test_a_folder_of_names_becomes_a_table(tmp_path):
    paths = [
        f"{plate}/TimePoint_{time}/ZStep_{z}/{plate}_B02_s1_w{wave}.TIF"
        for plate, time, z, wave in product(["P1", "P10"], [1, 2], [1, 3], [1, 2])
    ]
    for path in [*paths, "P1/TimePoint_1/ZStep_1/P1_B02_s1_w1_thumb.tif"]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    table, left = folder_table(tmp_path)
    assert left.to_numpy().tolist() == [["P1/TimePoint_1/ZStep_1/P1_B02_s1_w1_thumb.tif", "a thumbnail"]]
    read = {
        tuple(row): paths
        for row, *paths in zip(table[KEY].to_numpy(), table["Path_ch1"], table["Path_ch2"], strict=True)
    }
    assert read == {
        (plate, "B02", "1", str(z), str(time)): [
            f"{plate}/TimePoint_{time}/ZStep_{z}/{plate}_B02_s1_w{wave}.TIF" for wave in (1, 2)
        ]
        for plate, time, z in product(["P1", "P10"], [1, 2], [1, 3])
    }


def test_an_htd_in_an_inner_folder_names_the_channels_of_its_plate_alone(tmp_path):
    rows = ['"XWells", 3', '"YWells", 1', '"WellsSelection1", FALSE, TRUE, FALSE', '"NWavelengths", 1']
    for name in [f"{plate}/TimePoint_1/ZStep_{z}/9987_A02_w1.TIF" for plate in ("P1", "P10") for z in (1, 2)]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "P1/TimePoint_1/ZStep_1/9987.HTD").write_text("\n".join([*rows, '"WaveName1", "DAPI"']))
    table, _ = folder_table(tmp_path)
    assert (table[table[PLATE] == "P1"]["Path_DAPI"] != "").all()
    assert (table[table[PLATE] == "P10"]["Path_ch1"] != "").all()


@pytest.mark.parametrize(
    ("pattern", "fields"),
    [
        (r"(?P<Plate>.*)-(?P<Row>[A-P])(?P<Col>\d)-(?P<Site>\d)\.tif", [("x", "A01", "2"), ("x", "B03", "2")]),
        (r"[^/]*-(?P<well>[A-P]\d)-\d\.tif", [("screen", "A01", "1"), ("screen", "B03", "1")]),
    ],
)
def test_a_pattern_of_the_user(pattern, fields, tmp_path):
    (tmp_path / "screen").mkdir()
    for name in ("x-A1-2.tif", "x-B3-2.tif"):
        (tmp_path / "screen" / name).touch()
    table, _ = folder_table(tmp_path / "screen", pattern)
    assert list(table[[PLATE, WELL, SITE]].itertuples(index=False, name=None)) == fields


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("imagexpres", ["imagexpres", "imagexpress_ai", "well"]),
        (r"(?P<site>\d)", ["'well'", "'row' and 'col'"]),
        (r"x(?P<well", ["no regular expression"]),
        (r"(?P<well>[A-P]\d)", ["fits no file", "whole names", "x-A1-2.tif"]),
        (r"x-(?P<well>[A-P]\d)-(?P<site>.*)", ["site is no number", "2.tif"]),
    ],
)
def test_a_pattern_that_cannot_be_used_is_refused_in_one_sentence(pattern, words, tmp_path):
    (tmp_path / "x-A1-2.tif").touch()
    with pytest.raises(ScreenError) as refusal:
        folder_table(tmp_path, pattern)
    assert all(word in str(refusal.value) for word in words), refusal.value
    assert "\n" not in str(refusal.value)
