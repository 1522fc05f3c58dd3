"use strict";
/* A run's guesses, photo by photo: which are shown, what they make together, and the one that was chosen. */

(() => {
  const { photos, bands, thresholds, rendered } = JSON.parse(document.getElementById("data").textContent);
  const by = (id) => document.getElementById(id);
  const made = (tag, words = "", className = "") => {
    const element = document.createElement(tag);
    element.textContent = words; // names come from data lists: never as HTML
    element.className = className;
    return element;
  };
  const km = (distance) => {
    const digits = distance < 10 ? 1 : 0;
    return `${distance.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits })} km`;
  };
  const radius = (distance) => (distance === null ? "not known" : distance < 1 ? "less than 1 km" : km(distance));
  const what = rendered ? "pictures" : "photos";
  const file = (photo) => `photos/${photo.number}.jpg`;
  const whole = (name) => name.replace(/\([^(]*\)$/, (degrees) => degrees.replaceAll(" ", "\u00a0")); // on one line
  const swatch = (band) => {
    const dot = made("span", "", "band");
    dot.style.background = bands[band].colour;
    return dot;
  };
  for (const photo of photos) photo.band = Math.max(0, thresholds.length - 1 - photo.within);

  /* What can be chosen. */
  const checkbox = (name, value, words, extra) => {
    const label = made("label");
    const input = document.createElement("input");
    Object.assign(input, { type: "checkbox", name, value, checked: true, defaultChecked: true });
    label.append(input, ...extra, words);
    return label;
  };
  const scenes = [...new Set(photos.map((photo) => photo.scene))].sort();
  by("scenes").append(...scenes.map((scene) => checkbox("scene", scene, scene, [])));
  by("bands").append(...bands.map(({ name }, band) => checkbox("band", String(band), name, [swatch(band)])));
  const marked = (name) => new Set([...by("choices").querySelectorAll(`input[name=${name}]:checked`)].map((input) => input.value));

  const narrow = window.matchMedia("(max-width: 60rem)"); // as in the style: one column

  /* The list: its items are made once, and come and go. */
  const items = new Map();
  for (const photo of photos) {
    const button = made("button");
    button.type = "button";
    button.dataset.number = photo.number;
    button.tabIndex = -1;
    const image = document.createElement("img");
    Object.assign(image, { loading: "lazy", decoding: "async", width: 112, height: 90, alt: `Photo ${photo.number}` });
    image.src = file(photo);
    const words = made("span");
    const off = made("span", "", "off");
    off.append(swatch(photo.band), made("span", `${km(photo.km)} off`));
    const rest = [photo.scene, photo.sure && `${photo.sure} sure`, photo.radii[0] !== null && `50 % within ${radius(photo.radii[0])}, 90 % within ${radius(photo.radii[1])}`];
    words.append(off, made("span", `Guess: ${whole(photo.guessName)}`), made("span", `Truth: ${whole(photo.trueName)}`), made("span", rest.filter(Boolean).join(" · "), "soft"));
    button.append(image, words);
    button.addEventListener("click", ({ detail }) => {
      choose(photo);
      if (detail && narrow.matches) by("chosen").scrollIntoView({ block: "start" }); // it is above the list, out of sight
    });
    const item = made("li");
    item.append(button);
    items.set(photo, { item, button });
  }

  const world = window.geolocationMap(by("map"), `World map of the true places of the ${what}`);
  const legend = [
    [made("span"), "Dots are true places, guessed"],
    ...bands.map(({ name }, band) => [swatch(band), name]),
    ...[["key", "guess"], ["key truth", "truth"], ["key half", "holds the truth with 50 %"], ["key most", "with 90 %"]].map(([look, words]) => [made("span", "", look), words]),
  ];
  by("legend").append(...legend.map(([look, words]) => {
    const entry = made("li");
    entry.append(look, words);
    return entry;
  }));

  let shown = [];
  let chosen = null;

  const numbers = () => {
    const sorted = shown.map((photo) => photo.km).sort((one, other) => one - other);
    const middle = sorted.length / 2;
    const median = (sorted[Math.ceil(middle) - 1] + sorted[Math.floor(middle)]) / 2;
    const shares = thresholds.map((threshold, at) => {
      const within = shown.filter((photo) => photo.within >= thresholds.length - at).length;
      return [`within ${threshold.toLocaleString("en")} km`, shown.length ? `${((100 * within) / shown.length).toFixed(1)} %` : "–"];
    });
    by("numbers").replaceChildren(...[["median error", shown.length ? km(median) : "–"], ...shares].map(([name, value]) => {
      const tile = made("div");
      tile.append(made("dt", name), made("dd", value));
      return tile;
    }));
    by("count").textContent = shown.length
      ? `${shown.length.toLocaleString("en")} of ${photos.length.toLocaleString("en")} ${what} are shown`
      : `None of ${photos.length.toLocaleString("en")} ${what} is of such a scene and as far off`;
  };

  const layersOf = (photo) => ({
    areas: photo.areas,
    lines: photo.line.map((points) => ({ kind: "guess", points })),
    places: [
      { latitude: photo.truth[0], longitude: photo.truth[1], kind: "truth", label: `Truth: ${photo.trueName}`, fit: true, above: 900 },
      { latitude: photo.guess[0], longitude: photo.guess[1], kind: "guess", label: `Guess: ${photo.guessName}`, fit: true, above: 1000 },
    ],
  });

  const choose = (photo, focus = false) => {
    if (chosen) items.get(chosen).button.removeAttribute("aria-current");
    for (const { button } of items.values()) button.tabIndex = -1;
    chosen = photo;
    by("facts").hidden = !photo;
    by("hint").hidden = Boolean(photo);
    const at = shown.indexOf(photo);
    by("previous").disabled = at <= 0;
    by("next").disabled = at === shown.length - 1;
    by("all").disabled = !photo;
    const entry = photo || shown[0];
    if (entry) items.get(entry).button.tabIndex = 0;
    history.replaceState(null, "", photo ? `#photo-${photo.number}` : location.pathname + location.search);
    by("chosen-title").textContent = photo ? `Photo ${photo.number}` : "Chosen photo";
    if (!photo) {
      by("told").textContent = "";
      world.show({});
      return;
    }
    const { item, button } = items.get(photo);
    button.setAttribute("aria-current", "true");
    const list = by("list");
    const above = item.offsetTop - list.offsetTop;
    if (focus) button.focus();
    else if (above < list.scrollTop || above + item.offsetHeight > list.scrollTop + list.clientHeight) list.scrollTop = above - list.clientHeight / 3;
    Object.assign(by("large"), { src: file(photo), alt: `Photo ${photo.number}, ${photo.scene}, of ${photo.trueName}` });
    const about = [
      ["Guess", photo.guessName], ["Truth", photo.trueName], ["Off by", km(photo.km)], ["Scene", photo.scene],
      ["Confidence", photo.sure || "not known"], ["50 % within", radius(photo.radii[0])], ["90 % within", radius(photo.radii[1])],
    ];
    by("about").replaceChildren(...about.flatMap(([name, value]) => [made("dt", name), made("dd", value)]));
    const owner = [rendered ? "Rendered, not a photograph" : `Photo: ${photo.attribution || "author not known"}`, !rendered && (photo.licence || "licence not known")];
    by("owner").replaceChildren(owner.filter(Boolean).join(" · "));
    if (photo.url) {
      const link = made("a", "where it is from");
      Object.assign(link, { href: photo.url, rel: "noopener noreferrer nofollow", target: "_blank" });
      by("owner").append(" · ", link);
    }
    by("told").textContent = `Photo ${photo.number}: guess ${photo.guessName}, truth ${photo.trueName}, ${km(photo.km)} off`;
    world.show(layersOf(photo));
  };

  const filter = () => {
    const [sceneNames, bandNumbers] = [marked("scene"), marked("band")];
    const sign = marked("order").has("best") ? 1 : -1;
    shown = photos
      .filter((photo) => sceneNames.has(photo.scene) && bandNumbers.has(String(photo.band)))
      .sort((one, other) => sign * (one.km - other.km) || one.number - other.number);
    by("list").replaceChildren(...shown.map((photo) => items.get(photo).item));
    by("list").scrollTop = 0;
    numbers();
    const farFirst = [...shown].sort((one, other) => other.km - one.km); // so that the better ones lie on top
    world.scatter(farFirst.map((photo) => ({
      latitude: photo.truth[0],
      longitude: photo.truth[1],
      colour: bands[photo.band].colour,
      label: `Photo ${photo.number}, ${photo.trueName}: ${km(photo.km)} off`,
      open: () => choose(photo),
    })));
    choose(shown.includes(chosen) ? chosen : null);
  };

  const go = (steps, focus) => {
    const at = chosen ? shown.indexOf(chosen) + steps : 0;
    const next = shown[Math.max(0, Math.min(shown.length - 1, at))];
    if (next) choose(next, focus);
  };

  by("choices").addEventListener("submit", (event) => event.preventDefault());
  by("choices").addEventListener("change", filter);
  by("previous").addEventListener("click", () => go(-1));
  by("next").addEventListener("click", () => go(1));
  by("all").addEventListener("click", () => choose(null));
  by("list").addEventListener("keydown", (event) => {
    const steps = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1, Home: -photos.length, End: photos.length }[event.key];
    if (event.altKey || event.ctrlKey || event.metaKey || (!steps && event.key !== "Escape")) return;
    event.preventDefault();
    if (steps) go(steps, true);
    else choose(null);
  });

  const linked = () => {
    const number = Number((/^#photo-(\d+)$/.exec(location.hash) || [])[1]);
    const photo = photos.find((each) => each.number === number);
    if (!photo || photo === chosen) return;
    if (!shown.includes(photo)) {
      by("choices").querySelectorAll("input[type=checkbox]").forEach((input) => { input.checked = true; });
      filter();
    }
    choose(photo);
  };
  const asked = location.hash; // before the first view sets it to that of no photo
  by("choices").reset();
  filter();
  if (asked) history.replaceState(null, "", asked);
  linked();
  window.addEventListener("hashchange", linked);
})();
