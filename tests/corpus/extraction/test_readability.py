import pytest

from groundup.corpus.extraction.readability import readable_text

pytest.importorskip("selectolax")
LONG = "This sentence goes on for long enough to be content wherever it stands, with or without a frame around it."


def test_links_are_navigation_unless_they_stand_in_sentences() -> None:
    links = "<div><a href=1>First page of many</a> <a href=2>Second page of many</a></div>"
    html = f"{links}<p>{LONG} See <a href=3>there</a>.</p>"
    assert readable_text(html) == f"{LONG} See there."


def test_short_lines_beside_content_stay_and_those_far_from_it_go() -> None:
    html = f"<p>Lonely line</p><div><a href=1>Go here</a></div><p>{LONG}</p><p>Short line.</p>"
    assert readable_text(html) == f"{LONG}\n\nShort line."


def test_a_heading_stays_only_above_content() -> None:
    html = f"<h1>Title</h1><p>{LONG}</p><h2>Elsewhere</h2><ul><li><a href=1>one</a><li><a href=2>two</a></ul>"
    assert readable_text(html) == f"Title\n\n{LONG}"


def test_lists_tables_and_code_keep_their_form() -> None:
    html = (
        f"<main><p>{LONG}</p><ul><li>one<ul><li>inner</ul><li>two</ul>"
        "<table><tr><th>Year<th>Rain</tr><tr><td>1990<td>12</tr></table><pre>if x:\n    y &lt; 1</pre></main>"
    )
    assert readable_text(html) == f"{LONG}\n\n- one\n  - inner\n- two\n\nYear | Rain\n1990 | 12\n\nif x:\n    y < 1"


def test_the_main_region_is_believed_only_if_it_holds_the_text() -> None:
    assert readable_text(f"<p>{LONG} A</p><main><p>{LONG} B</p></main>") == f"{LONG} B"
    assert readable_text(f"<p>{LONG} A</p><main>loading</main>").startswith(f"{LONG} A")


@pytest.mark.parametrize(
    "attributes", ['class="page_footer"', 'id="cookie-consent"', "hidden", 'style="display: none"']
)
def test_what_a_page_itself_calls_boilerplate_goes(attributes: str) -> None:
    assert readable_text(f"<p>{LONG}</p><div {attributes}><p>{LONG} Not this.</p></div>") == LONG


@pytest.mark.parametrize("name", ["has-sidebar", "no-comments", "social widget"])
def test_a_class_name_of_the_whole_page_does_not_lose_it(name: str) -> None:
    assert readable_text(f'<div class="{name}"><p>{LONG}</p></div>') == LONG
    assert readable_text(f'<body class="{name}"><p>{LONG}</p>') == LONG


def test_line_breaks_are_kept_and_source_lines_are_not() -> None:
    assert readable_text(f"<p>{LONG}\n  More<br>of it</p>") == f"{LONG} More\nof it"


def test_quotes_and_angles_in_attributes_do_not_confuse() -> None:
    assert readable_text(f"""<p title='a "quoted" > b' data-x="<p>">{LONG}</p>""") == LONG


@pytest.mark.parametrize(
    "inside",
    [
        """<script>document.write("<div class='x'><p>" + "</script" + ">")</script>""",
        "<style>a::before { content: '<ul>' }</style>",
        "<iframe><div></iframe><noscript><p>Turn it on <b>now</b></p></noscript>",
        "<aside><bgsound src=x><keygen><img src=y alt='a > b'><input></aside>",
        """<img alt="a"" src="b"><a href="c""d" = ==>x</a> <i">y</i">""",
        "<svg><linearGradient id='g'><stop/></linearGradient><text>Drawing</text></svg><!-- <div> -->",
    ],
)
def test_what_looks_like_markup_and_is_none_does_not_swallow_the_page(inside: str) -> None:
    text = readable_text(f"<div><p>{LONG} Before.</p>{inside}<p>{LONG} After.</p></div>")
    assert f"{LONG} Before." in text and f"{LONG} After." in text
    assert not any(mark in text for mark in ("<", "Drawing", "alt=", "content:", "Turn it on"))


@pytest.mark.parametrize("html", ["", "<", "text", "<!-- only -->", "<frameset><frame src=a></frameset>", "<p></p>"])
def test_pages_without_content_give_little_or_nothing(html: str) -> None:
    assert readable_text(html) in ("", html)
