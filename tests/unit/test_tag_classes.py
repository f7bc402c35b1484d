"""Classes of tags by the rules of the extension's text file, and files with rules of one's own."""

from __future__ import annotations

import pytest

from lib_pivotal.core.core_tags.tag_classes import OTHER, load_tag_classes, read_tag_classes
from lib_pivotal.core.errors import ConfigError

CLASSES = load_tag_classes()

EXPECTED = {
    "emoticon": ":d ^_^ o_o >_< ;) :3 +_+ =_=",
    "about the image": "absurdres,highres,best quality,masterpiece,watermark,artist name,jpeg artifacts,"
    "official art,low resolution,english text,web address",
    "people": "1girl,2girls,solo,6+girls,multiple girls,1boy,3boys,no humans,1other,multiple boys",
    "framing": "cowboy shot,upper body,from behind,close-up,closeup,portrait,multiple views,chibi,solo focus,"
    "monochrome,dutch angle,full body,pov",
    "hair in motion": "wet hair,floating hair,messy hair,adjusting hair,hand in own hair,hair down,hair up,hair_up",
    "hair over the face": "hair over one eye,hair between eyes",
    "worn in the hair": "hair ribbon,red hair bow,hair ornament,hairclip,hairband,hair flower,tiara,"
    "black hair ribbon,x hair ornament,maid headdress",
    "hair color": "red hair,black hair,blonde hair,light brown hair,gray hair,multicolored hair,"
    "two-tone hair,aqua hair,Red_Hair,pale blue hair,streaked hair",
    "hair length": "long hair,short hair,very long hair,absurdly long hair,medium hair,short hair with long locks",
    "hair detail": "bangs,blunt bangs,parted bangs,ahoge,sidelocks,hair intakes",
    "hairstyle": "ponytail,high ponytail,twintails,low twintails,braid,twin braids,braided ponytail,hair bun,"
    "double bun,bob cut,one side up,curly hair,drill hair,side ponytail,straight hair,mohawk",
    "eye color": "blue eyes,red eyes,light blue eyes,purple eyes,amber eyes,green_eyes,bright pink eyes",
    "eye shape": "glowing eyes,heterochromia,slit pupils,heart-shaped pupils,tsurime",
    "expression": "smile,smiling,light smile,smirk,blush,open mouth,closed eyes,looking at viewer,tongue out,"
    "one eye closed,half-closed eyes,crying,parted lips,expressionless,empty eyes",
    "skin and marks": "dark skin,freckles,mole under eye,scar on face,scar across eye,dark-skinned female,fangs,"
    "arm tattoo,beard,facial hair,thick eyebrows,green skin,bald",
    "taken off": "fake animal ears,fake tail,removed horns,kemonomimi mode ears",
    "non-human parts": "cat ears,animal ears,horns,single horn,dragon horns,fox tail,tail,wings,angel wings,halo,"
    "pointy ears,black wings,antennae,robot joints,demon tail,white fur,animal ear fluff,wolf ears,antlers",
    "kind of being": "robot,cat girl,elf,demon girl,android,mermaid,monster,dragon,fox",
    "build and age": "large breasts,muscular,tall,petite,mature female,old man,flat chest",
    "worn, small": "glasses,round eyewear,earrings,choker,eyepatch,mask,necklace,headphones,neck bell",
    "clothing": "hat,black dress,school uniform,serafuku,white shirt,long sleeves,thighhighs,red scarf,hooded jacket,"
    "black bow,cape,armor,pleated skirt,witch hat,gloves,boots,bikini,maid apron,detached sleeves,barefoot,t-shirt",
    "held": "holding sword,holding,carrying,drinking tea,playing guitar",
    "skin that shows": "navel,collarbone,bare shoulders,thighs,midriff,nude,cleavage",
    "pose": "standing,sitting,lying,arms up,hand on own hip,running,v,head tilt,crossed arms,leaning forward,"
    "outstretched arm,peace sign,on back,on bed,dancing,hands on own face",
    "place and light": "outdoors,white background,simple background,sky,night,starry sky,tree,sunlight,rain,"
    "depth of field,classroom,window,beach,full moon,cherry blossoms petals,snow,shadow",
    "other": "sword,katana,zog,teal thing,large,small,tail gun,school bag,car,food,book",
}  # fmt: skip
TABLE = [
    (tag, name) for name, tags in EXPECTED.items() for tag in (tags.split() if name == "emoticon" else tags.split(","))
]

# Tags also come in British spelling.
TABLE += [("gr" + "ey hair", "hair color"), ("gr" + "eyscale", "framing"), ("multicol" + "oured hair", "hair color")]


def test_every_tag_has_the_class_that_its_rule_means():
    assert len(TABLE) >= 150
    wrong = {tag: CLASSES.of(tag).name for tag, name in TABLE if CLASSES.of(tag).name != name}
    assert not wrong


def test_only_permanent_classes_prune_by_themselves():
    assert CLASSES.of("red hair").use == CLASSES.of("cat ears").use == "permanent"
    assert CLASSES.of("hat").use == CLASSES.of("hair ribbon").use == CLASSES.of("sword").use == "ask"
    assert CLASSES.of("smile").use == CLASSES.of("white background").use == CLASSES.of("1girl").use == "changing"
    assert CLASSES.of("red hair").rivals and not CLASSES.of("bangs").rivals
    assert CLASSES.of("hat").worn and CLASSES.of("hat").look and not CLASSES.of("twintails").worn


def test_rules_of_ones_own_replace_those_of_the_extension(tmp_path):
    (tmp_path / "tag_classes.txt").write_text(
        "\ufeff# mine\n{c} = (?:rot|blau)\n[Haarfarbe] permanent rivals\n^{c}e haare$\n", "utf-8"
    )
    own = load_tag_classes(tmp_path)
    assert own.of("rote Haare").name == "Haarfarbe" and own.of("red hair") is OTHER
    assert load_tag_classes(tmp_path / "none").of("red hair").name == "hair color"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no classes"),
        ("^x$", "Line 1: .*before the first class"),
        ("[a] always\nx", "Line 1: .*permanent, ask, changing"),
        ("[a] permanent shiny\nx", "Line 1: There is no mark shiny"),
        ("[a] ask\n\n# x\n(x", "Line 4: .*not a regular expression"),
        ("[a] ask\n{size} x", "Line 2: There is no part {size}"),
        ("[a] ask\nx\n[a] permanent\ny", "Line 3: The class a"),
    ],
)  # fmt: skip
def test_a_line_that_cannot_be_used_is_named(tmp_path, text, message):
    path = tmp_path / "tag_classes.txt"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_tag_classes(tmp_path)
    assert caught.value.problems[0].field == str(path)


def test_a_file_that_is_not_text_is_named(tmp_path):
    (tmp_path / "tag_classes.txt").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_tag_classes(tmp_path)


@pytest.mark.timeout(20)
def test_long_tags_take_no_time():
    assert CLASSES.of("red " * 100_000) is OTHER
    for number in range(2000):
        CLASSES.of(f"hand in {'long ' * 15}hair {number}")


def test_parts_can_be_used_in_parts():
    rules = read_tag_classes("{a} = x|y\n{b} = (?:{a}) z\n[one] ask\n^{b}$")
    assert rules.of("y z").name == "one" and rules.of("z") is OTHER
